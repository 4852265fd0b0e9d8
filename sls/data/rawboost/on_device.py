"""RawBoost for a whole batch of waveforms, on the device where they lie.

It imports torch, as otherwise only the dataset and its loader do in this package. Draws are made and filters
designed on the CPU with NumPy, from one generator for each trial, so that an augmentation depends on its
generator alone, and not on its batch or device, but for rounding; powers, FFTs and scaling run on the device.
The result equals that of `apply_rawboost` within 5e-6 of full scale, or of the waveform's
peak beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sls.config import SAMPLE_RATE_HZ, RawBoostConfig
from sls.data.rawboost.algorithms import MAX_LOG_GAIN, MAX_NOISE_SCALE, PARALLEL, RawBoostDraws, draw_rawboost
from sls.data.rawboost.batch_draws import (
    BatchDraws,
    BatchFilters,
    BatchImpulses,
    BatchNoise,
    map_tensors,
    stack_draws,
)
from sls.data.rawboost.filters import RandomSource

NEPERS_PER_DB = math.log(10) / 20


@dataclass(frozen=True)
class DeferredRawBoost:
    """Recordings with what a loader's worker drew for them, to be augmented on another device."""

    recordings: torch.Tensor
    """Whole recordings, 0 beyond the end of each, shape `(batch, longest)`, float32."""
    lengths: torch.Tensor
    """Samples of each, shape `(batch,)`, int64."""
    starts: torch.Tensor
    """The first sample to keep of each, shape `(batch,)`, int64."""
    draws: BatchDraws
    params: RawBoostConfig
    num_samples: int
    """Samples to keep; a shorter recording is repeated."""

    @classmethod
    def prepare(
        cls,
        recordings: Sequence[np.ndarray],
        starts: Sequence[int],
        draws: Sequence[RawBoostDraws],
        params: RawBoostConfig,
        num_samples: int,
        sample_rate_hz: int,
    ) -> DeferredRawBoost:
        """Does what is done on the CPU, for one recording or more of shape `(n,)`."""
        lengths = [len(recording) for recording in recordings]
        padded = np.zeros((len(recordings), max(lengths)), np.float32)
        for row, recording in zip(padded, recordings, strict=True):
            row[: len(recording)] = recording
        stacked = stack_draws(draws, max(lengths), sample_rate_hz)
        parts = torch.from_numpy(padded), torch.tensor(lengths), torch.tensor(starts)
        return cls(*parts, stacked, params, num_samples)

    def apply(self) -> torch.Tensor:
        """Returns the augmented waveforms, of fitted length, `(batch, num_samples)`, where the recordings are."""
        boosted = apply_stacked_draws(self.recordings, self.lengths, self.params, self.draws)
        steps = torch.arange(self.num_samples, device=boosted.device)
        return boosted.gather(1, (self.starts[:, None] + steps) % self.lengths[:, None])


def apply_rawboost_batch(
    waveforms: torch.Tensor,
    params: RawBoostConfig,
    rngs: Sequence[RandomSource],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> torch.Tensor:
    """Returns the augmented waveforms.

    Args:
        waveforms: shape `(batch, num_samples)`, float32, finite.
        params: the algorithm and its bounds.
        rngs: a generator for each waveform.
        sample_rate_hz: sampling rate in Hz.

    Returns:
        A new tensor of the same shape, on the same device, without gradient.

    Raises:
        ValueError: if the waveforms are not such a batch, or there is not a generator for each.
    """
    if waveforms.ndim != 2 or waveforms.shape[-1] == 0 or waveforms.dtype != torch.float32:
        found = f"{tuple(waveforms.shape)} of {waveforms.dtype}"
        raise ValueError(f"waveforms: found {found}, expected (batch, num_samples) of torch.float32")
    if len(rngs) != len(waveforms):
        raise ValueError(f"rngs: found {len(rngs)}, expected one for each of {len(waveforms)} waveforms")
    draws = [draw_rawboost(params, waveforms.shape[-1], rng) for rng in rngs]
    return apply_draws_batch(waveforms, params, draws, sample_rate_hz)


def apply_draws_batch(
    waveforms: torch.Tensor,
    params: RawBoostConfig,
    draws: Sequence[RawBoostDraws],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> torch.Tensor:
    """Returns `waveforms`, `(batch, num_samples)`, float32, with the noises that `draw_rawboost` drew for each."""
    num_samples = waveforms.shape[-1]
    stacked = map_tensors(stack_draws(draws, num_samples, sample_rate_hz), lambda t: t.to(waveforms.device))
    lengths = torch.full((len(waveforms),), num_samples, device=waveforms.device)
    return apply_stacked_draws(waveforms, lengths, params, stacked)


@torch.no_grad()
def apply_stacked_draws(
    waveforms: torch.Tensor, lengths: torch.Tensor, params: RawBoostConfig, draws: BatchDraws
) -> torch.Tensor:
    """Returns the augmented waveforms: the part that is done on the device.

    Args:
        waveforms: `(batch, num_samples)`, float32, 0 beyond the end of each.
        lengths: the number of samples of each, `(batch,)`, int64.
        params: the algorithm and its bounds.
        draws: from `stack_draws`, on the device of the waveforms.

    Returns:
        A new tensor of the same shape, 0 beyond the end of each.
    """
    is_inside = torch.arange(waveforms.shape[-1], device=waveforms.device) < lengths[:, None]
    boosted = waveforms.clone()
    if draws.lnl is not None:
        boosted = _lnl(boosted, is_inside, draws.lnl)
    if draws.isd is not None and params.algo == PARALLEL:
        boosted = _unclipped(boosted + _isd(waveforms, params.g_sd, draws.isd))
    elif draws.isd is not None:
        boosted = _isd(boosted, params.g_sd, draws.isd)
    if draws.ssi is not None:
        boosted = _ssi(boosted, is_inside, draws.ssi)
    return boosted


def _lnl(waveforms: torch.Tensor, is_inside: torch.Tensor, filters: BatchFilters) -> torch.Tensor:
    """Linear and non-linear convolutive noise: a filter for each power of a waveform, summed."""
    peak = waveforms.abs().amax(dim=-1, keepdim=True)
    peak = torch.where(peak > 0, peak, 1)
    orders = torch.arange(1, filters.gain_db.shape[-1] + 1, device=waveforms.device)
    powers = (waveforms / peak)[:, None] ** orders[:, None]
    log_gains = orders * peak.double().log() + filters.gain_db * NEPERS_PER_DB
    greatest = log_gains.amax(dim=-1, keepdim=True)
    relative = (log_gains - greatest).exp().float()
    summed = _filter_and_sum(powers * relative[..., None], filters) * is_inside
    mean = summed.sum(dim=-1, keepdim=True) / is_inside.sum(dim=-1, keepdim=True)
    summed = (summed - mean) * is_inside
    return _unclipped(summed, greatest.clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN).exp())


def _isd(waveforms: torch.Tensor, gain: float, impulses: BatchImpulses) -> torch.Tensor:
    """Impulsive signal-dependent noise on a random share of the samples."""
    disturbed = waveforms.flatten()  # a copy only if the rows are not contiguous
    impulsive = disturbed[impulses.places] * (1 + gain * impulses.factors)
    greatest = torch.finfo(torch.float32).max
    disturbed = disturbed.index_put((impulses.places,), impulsive.clamp(-greatest, greatest).float())
    return _unclipped(disturbed.view_as(waveforms))


def _ssi(waveforms: torch.Tensor, is_inside: torch.Tensor, draws: BatchNoise) -> torch.Tensor:
    """Stationary signal-independent noise: filtered white noise at a random signal-to-noise ratio."""
    noise = _filter_and_sum(draws.white[:, None], draws.filters) * is_inside
    noise_norm = torch.linalg.vector_norm(noise, dim=-1, keepdim=True, dtype=torch.float64)
    signal_norm = torch.linalg.vector_norm(waveforms, dim=-1, keepdim=True, dtype=torch.float64)
    ratio = (-draws.snr_db * NEPERS_PER_DB).clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN).exp()
    scale = signal_norm / torch.where(noise_norm > 0, noise_norm, 1) * ratio
    return waveforms + noise * scale.clamp(max=MAX_NOISE_SCALE).float()


def _filter_and_sum(signals: torch.Tensor, filters: BatchFilters) -> torch.Tensor:
    """As `rawboost_filters.filter_powers`, for a batch of which the powers are there.

    Args:
        signals: `(batch, filters, num_samples)`.
        filters: a filter for each of them.

    Returns:
        The sums of the filtered signals, `(batch, num_samples)`.
    """
    batch, num_filters, num_samples = signals.shape
    num_points = 2 * (filters.responses.shape[-1] - 1)
    half_length = filters.half_length
    step = num_points - 2 * half_length
    num_blocks = -(-num_samples // step)
    padded = signals.new_zeros(batch, num_filters, (num_blocks - 1) * step + num_points)
    padded[..., half_length - 1 : half_length - 1 + num_samples] = signals
    spectra = torch.fft.rfft(padded.unfold(-1, num_points, step)) * filters.responses[:, :, None]
    filtered = torch.fft.irfft(spectra.sum(dim=1), num_points)
    return filtered[..., half_length : half_length + step].reshape(batch, -1)[:, :num_samples]


def _unclipped(waveforms: torch.Tensor, gain: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Returns `gain * waveforms`, `gain` of shape `(batch, 1)`, each scaled to a peak of 1 if it would clip."""
    peak = waveforms.abs().amax(dim=-1, keepdim=True).double()
    factor = torch.where(peak * gain > 1, 1 / peak, torch.as_tensor(gain, dtype=torch.float64).to(peak))
    return waveforms * torch.where(peak > 0, factor, 1).float()
