"""RawBoost for a whole batch of recordings, on the device where they lie.

It imports torch, as otherwise only the dataset and its loader do in this package. Draws are made and filters
designed on the CPU with NumPy, from one generator for each trial, so that an augmentation depends on its
generator alone, and not on its batch or device, but for rounding; powers, FFTs and scaling run on the device.
The result equals that of `apply_rawboost` within 5e-6 of full scale, or of the waveform's
peak beyond it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from sls.config import RawBoostConfig
from sls.data.rawboost.algorithms import (
    MAX_LOG_GAIN,
    MAX_NOISE_SCALE,
    PARALLEL,
    ImpulseDraws,
    NoiseDraws,
    RawBoostDraws,
)
from sls.data.rawboost.filters import FilterDraws, fft_length, zero_phase_response

NEPERS_PER_DB = math.log(10) / 20

Parts = TypeVar("Parts")


@dataclass(frozen=True)
class BatchFilters:
    """The filters of a batch, designed."""

    responses: torch.Tensor
    """Zero-phase responses, shape `(batch, filters, num_points // 2 + 1)`, float32."""
    gain_db: torch.Tensor
    """Gain of each at its peak, shape `(batch, filters)`, float64."""
    half_length: int
    """Coefficients of the longest filter on either side of its middle one."""

    @classmethod
    def design(cls, draws: Sequence[FilterDraws], sample_rate_hz: int) -> BatchFilters:
        """Returns the filters that were drawn for each recording."""
        fields = [field.name for field in dataclasses.fields(FilterDraws)]
        stacked = FilterDraws(*(np.concatenate([getattr(one, name) for one in draws]) for name in fields))
        response = zero_phase_response(stacked, sample_rate_hz, fft_length(stacked.half_length))
        return cls(
            torch.from_numpy(response.astype(np.float32)).view(len(draws), -1, response.shape[-1]),
            torch.from_numpy(stacked.gain_db).view(len(draws), -1),
            max(stacked.half_length, 1),
        )


@dataclass(frozen=True)
class BatchImpulses:
    """The draws of ISD for a batch."""

    places: torch.Tensor
    """Disturbed samples, counted through the whole batch, shape `(num_disturbed,)`, int64."""
    factors: torch.Tensor
    """Disturbance of each as a part of the sample, without its gain, shape `(num_disturbed,)`, float64."""

    @classmethod
    def stack(cls, draws: Sequence[ImpulseDraws], longest: int) -> BatchImpulses:
        """Puts together the draws for recordings that are padded to the longest."""
        places = np.concatenate([row * longest + one.positions for row, one in enumerate(draws)])
        return cls(torch.from_numpy(places), torch.from_numpy(np.concatenate([one.factors for one in draws])))


@dataclass(frozen=True)
class BatchNoise:
    """The draws of SSI for a batch."""

    white: torch.Tensor
    """White Gaussian noise, 0 beyond the end of a recording, shape `(batch, longest)`, float32."""
    filters: BatchFilters
    snr_db: torch.Tensor
    """Signal-to-noise ratios, dB, shape `(batch, 1)`, float64."""

    @classmethod
    def stack(cls, draws: Sequence[NoiseDraws], sample_rate_hz: int) -> BatchNoise:
        """Puts together the draws for recordings, and designs their filters."""
        return cls(
            _pad([one.white for one in draws]),
            BatchFilters.design([one.notches for one in draws], sample_rate_hz),
            torch.tensor([[one.snr_db] for one in draws], dtype=torch.float64),
        )


@dataclass(frozen=True)
class DeferredRawBoost:
    """Recordings with what a loader's worker drew for them, to be augmented on another device."""

    recordings: torch.Tensor
    """Whole recordings, 0 beyond the end of each, shape `(batch, longest)`, float32."""
    lengths: torch.Tensor
    """Samples of each, shape `(batch,)`, int64."""
    starts: torch.Tensor
    """The first sample to keep of each, shape `(batch,)`, int64."""
    lnl: BatchFilters | None
    """The filters of LnL; None, as for the other noises, where the algorithm leaves it out."""
    isd: BatchImpulses | None
    ssi: BatchNoise | None
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
        """Does what is done on the CPU, for one recording or more of shape `(n,)`, float32, finite."""
        lengths = [len(recording) for recording in recordings]
        lnl = [one.lnl for one in draws if one.lnl is not None]
        isd = [one.isd for one in draws if one.isd is not None]
        ssi = [one.ssi for one in draws if one.ssi is not None]
        return cls(
            recordings=_pad(recordings),
            lengths=torch.tensor(lengths),
            starts=torch.tensor(starts),
            lnl=BatchFilters.design(lnl, sample_rate_hz) if lnl else None,
            isd=BatchImpulses.stack(isd, max(lengths)) if isd else None,
            ssi=BatchNoise.stack(ssi, sample_rate_hz) if ssi else None,
            params=params,
            num_samples=num_samples,
        )

    @torch.no_grad()
    def apply(self) -> torch.Tensor:
        """Returns the augmented waveforms, of fitted length, `(batch, num_samples)`, where the recordings are."""
        longest, device = self.recordings.shape[-1], self.recordings.device
        is_inside = torch.arange(longest, device=device) < self.lengths[:, None]
        boosted = self.recordings
        if self.lnl is not None:
            boosted = _lnl(boosted, is_inside, self.lnl)
        if self.isd is not None and self.params.algo == PARALLEL:
            boosted = _unclipped(boosted + _isd(self.recordings, self.params.g_sd, self.isd))
        elif self.isd is not None:
            boosted = _isd(boosted, self.params.g_sd, self.isd)
        if self.ssi is not None:
            boosted = _ssi(boosted, is_inside, self.ssi)
        kept = self.starts[:, None] + torch.arange(self.num_samples, device=device)
        return boosted.gather(1, kept % self.lengths[:, None])


def map_tensors(parts: Parts, change: Callable[[torch.Tensor], torch.Tensor]) -> Parts:
    """Returns a dataclass with every tensor in it, and in the dataclasses inside it, changed: moved or pinned."""
    changed: Any = parts
    if isinstance(parts, torch.Tensor):
        changed = change(parts)
    elif dataclasses.is_dataclass(parts) and not isinstance(parts, type):
        values = {
            item.name: map_tensors(getattr(parts, item.name), change) for item in dataclasses.fields(parts)
        }
        changed = dataclasses.replace(parts, **values)
    return changed


def _pad(rows: Sequence[np.ndarray]) -> torch.Tensor:
    padded = np.zeros((len(rows), max(map(len, rows))), np.float32)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)


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
    """As `filters.filter_powers`, for a batch of which the powers are there.

    Args:
        signals: `(batch, filters, num_samples)`.
        filters: A filter for each of them.

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
