"""RawBoost for a whole batch of waveforms, on the device where they lie.

It imports torch, as otherwise only the dataset and its loader do in this package. Draws are made on the CPU
with NumPy, from one generator for each trial, so that an augmentation depends on its generator alone, and
not on its batch or device, but for rounding; powers, FFTs and scaling run on the device. The result equals
that of `sls.data.rawboost.apply_rawboost` within 5e-6 of full scale, or of the waveform's peak beyond it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from sls.config import RawBoostConfig
from sls.data.rawboost import (
    MAX_LOG_GAIN,
    MAX_NOISE_SCALE,
    PARALLEL,
    ImpulseDraws,
    NoiseDraws,
    RawBoostDraws,
    draw_rawboost,
)
from sls.data.rawboost_filters import FilterDraws, RandomSource, fft_length, zero_phase_response

NEPERS_PER_DB = math.log(10) / 20


def apply_rawboost_batch(
    waveforms: torch.Tensor,
    params: RawBoostConfig,
    rngs: Sequence[RandomSource],
    sample_rate_hz: int = 16_000,
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


@torch.no_grad()
def apply_draws_batch(
    waveforms: torch.Tensor,
    params: RawBoostConfig,
    draws: Sequence[RawBoostDraws],
    sample_rate_hz: int = 16_000,
) -> torch.Tensor:
    """Returns `waveforms` with the noises that `draw_rawboost` drew for each, perhaps in a loader's worker.

    Shape: `(batch, num_samples)`, float32, in and out.
    """
    boosted = waveforms.clone()
    lnl = [one.lnl for one in draws if one.lnl is not None]
    isd = [one.isd for one in draws if one.isd is not None]
    ssi = [one.ssi for one in draws if one.ssi is not None]
    if lnl:
        boosted = _lnl(boosted, lnl, sample_rate_hz)
    if isd and params.algo == PARALLEL:
        boosted = _unclipped(boosted + _isd(waveforms, params.g_sd, isd))
    elif isd:
        boosted = _isd(boosted, params.g_sd, isd)
    if ssi:
        boosted = _ssi(boosted, ssi, sample_rate_hz)
    return boosted


def _lnl(waveforms: torch.Tensor, draws: Sequence[FilterDraws], sample_rate_hz: int) -> torch.Tensor:
    """Linear and non-linear convolutive noise: a filter for each power of a waveform, summed."""
    peak = waveforms.abs().amax(dim=-1, keepdim=True)
    peak = torch.where(peak > 0, peak, 1)
    orders = torch.arange(1, len(draws[0].gain_db) + 1, device=waveforms.device)
    powers = (waveforms / peak)[:, None] ** orders[:, None]
    gain_db = torch.from_numpy(np.stack([draw.gain_db for draw in draws])).to(waveforms.device)
    log_gains = orders * peak.double().log() + gain_db * NEPERS_PER_DB
    greatest = log_gains.amax(dim=-1, keepdim=True)
    relative = (log_gains - greatest).exp().float()
    summed = _filter_and_sum(powers * relative[..., None], draws, sample_rate_hz)
    summed -= summed.mean(dim=-1, keepdim=True)
    return _unclipped(summed, greatest.clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN).exp())


def _isd(waveforms: torch.Tensor, gain: float, draws: Sequence[ImpulseDraws]) -> torch.Tensor:
    """Impulsive signal-dependent noise on a random share of the samples."""
    num_samples = waveforms.shape[-1]
    positions = np.concatenate([row * num_samples + draw.positions for row, draw in enumerate(draws)])
    factors = 1 + gain * np.concatenate([draw.factors for draw in draws])
    disturbed = waveforms.flatten()  # a copy only if the rows are not contiguous
    where = torch.from_numpy(positions).to(waveforms.device)
    impulsive = disturbed[where] * torch.from_numpy(factors).to(waveforms.device)
    greatest = torch.finfo(torch.float32).max
    disturbed = disturbed.index_put((where,), impulsive.clamp(-greatest, greatest).float())
    return _unclipped(disturbed.view_as(waveforms))


def _ssi(waveforms: torch.Tensor, draws: Sequence[NoiseDraws], sample_rate_hz: int) -> torch.Tensor:
    """Stationary signal-independent noise: filtered white noise at a random signal-to-noise ratio."""
    white = torch.from_numpy(np.stack([draw.white for draw in draws])).to(waveforms.device)
    noise = _filter_and_sum(white[:, None], [draw.notches for draw in draws], sample_rate_hz)
    noise_norm = torch.linalg.vector_norm(noise, dim=-1, keepdim=True, dtype=torch.float64)
    signal_norm = torch.linalg.vector_norm(waveforms, dim=-1, keepdim=True, dtype=torch.float64)
    snr_db = torch.tensor([[draw.snr_db] for draw in draws], dtype=torch.float64, device=waveforms.device)
    ratio = (-snr_db * NEPERS_PER_DB).clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN).exp()
    scale = signal_norm / torch.where(noise_norm > 0, noise_norm, 1) * ratio
    return waveforms + noise * scale.clamp(max=MAX_NOISE_SCALE).float()


def _filter_and_sum(signals: torch.Tensor, draws: Sequence[FilterDraws], sample_rate_hz: int) -> torch.Tensor:
    """As `rawboost_filters.filter_powers`, for a batch of which the powers are there.

    Args:
        signals: `(batch, filters, num_samples)`.
        draws: the filters of each waveform.
        sample_rate_hz: sampling rate in Hz.

    Returns:
        The sums of the filtered signals, `(batch, num_samples)`.
    """
    stacked = FilterDraws(
        *(
            np.concatenate([getattr(draw, field.name) for draw in draws])
            for field in dataclasses.fields(FilterDraws)
        )
    )
    num_points = fft_length(stacked.half_length)
    response = zero_phase_response(stacked, sample_rate_hz, num_points).astype(np.float32)
    responses = torch.from_numpy(response).to(signals.device).view(*signals.shape[:2], 1, -1)

    batch, filters, num_samples = signals.shape
    half_length = max(stacked.half_length, 1)
    step = num_points - 2 * half_length
    num_blocks = -(-num_samples // step)
    padded = signals.new_zeros(batch, filters, (num_blocks - 1) * step + num_points)
    padded[..., half_length - 1 : half_length - 1 + num_samples] = signals
    spectra = torch.fft.rfft(padded.unfold(-1, num_points, step)) * responses
    filtered = torch.fft.irfft(spectra.sum(dim=1), num_points)
    return filtered[..., half_length : half_length + step].reshape(batch, -1)[:, :num_samples]


def _unclipped(waveforms: torch.Tensor, gain: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Returns `gain * waveforms`, `gain` of shape `(batch, 1)`, each scaled to a peak of 1 if it would clip."""
    peak = waveforms.abs().amax(dim=-1, keepdim=True).double()
    factor = torch.where(peak * gain > 1, 1 / peak, torch.as_tensor(gain, dtype=torch.float64).to(peak))
    return waveforms * torch.where(peak > 0, factor, 1).float()
