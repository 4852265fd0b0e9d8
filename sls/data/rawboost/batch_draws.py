"""What was drawn for a batch of waveforms by RawBoost, as tensors that move to a device together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from sls.config import SAMPLE_RATE_HZ
from sls.data.rawboost.algorithms import ImpulseDraws, NoiseDraws, RawBoostDraws
from sls.data.rawboost.filters import FilterDraws, fft_length, zero_phase_response

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


@dataclass(frozen=True)
class BatchImpulses:
    """The draws of ISD for a batch."""

    places: torch.Tensor
    """Disturbed samples, counted through the whole batch, shape `(num_disturbed,)`, int64."""
    factors: torch.Tensor
    """Disturbance of each as a part of the sample, without its gain, shape `(num_disturbed,)`, float64."""


@dataclass(frozen=True)
class BatchNoise:
    """The draws of SSI for a batch."""

    white: torch.Tensor
    """White Gaussian noise, 0 beyond the end of a waveform, shape `(batch, num_samples)`, float32."""
    filters: BatchFilters
    snr_db: torch.Tensor
    """Signal-to-noise ratios, dB, shape `(batch, 1)`, float64."""


@dataclass(frozen=True)
class BatchDraws:
    """All that is random in a batch, as tensors; None for the noises that the algorithm leaves out."""

    lnl: BatchFilters | None
    isd: BatchImpulses | None
    ssi: BatchNoise | None


def stack_draws(
    draws: Sequence[RawBoostDraws], num_samples: int, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> BatchDraws:
    """Designs the filters and puts the draws of a batch together: the part that is done on the CPU.

    Args:
        draws: those of each waveform, of one algorithm; one or more.
        num_samples: the length of the batch, that of its longest waveform.
        sample_rate_hz: sampling rate in Hz.
    """
    lnl = [one.lnl for one in draws if one.lnl is not None]
    isd = [one.isd for one in draws if one.isd is not None]
    ssi = [one.ssi for one in draws if one.ssi is not None]
    return BatchDraws(
        lnl=_design(lnl, sample_rate_hz) if lnl else None,
        isd=_stack_impulses(isd, num_samples) if isd else None,
        ssi=_stack_noise(ssi, num_samples, sample_rate_hz) if ssi else None,
    )


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


def _design(draws: Sequence[FilterDraws], sample_rate_hz: int) -> BatchFilters:
    stacked = FilterDraws(
        *(
            np.concatenate([getattr(draw, field.name) for draw in draws])
            for field in dataclasses.fields(FilterDraws)
        )
    )
    response = zero_phase_response(stacked, sample_rate_hz, fft_length(stacked.half_length))
    return BatchFilters(
        torch.from_numpy(response.astype(np.float32)).view(len(draws), -1, response.shape[-1]),
        torch.from_numpy(stacked.gain_db).view(len(draws), -1),
        max(stacked.half_length, 1),
    )


def _stack_impulses(draws: Sequence[ImpulseDraws], num_samples: int) -> BatchImpulses:
    places = np.concatenate([row * num_samples + draw.positions for row, draw in enumerate(draws)])
    factors = np.concatenate([draw.factors for draw in draws])
    return BatchImpulses(torch.from_numpy(places), torch.from_numpy(factors))


def _stack_noise(draws: Sequence[NoiseDraws], num_samples: int, sample_rate_hz: int) -> BatchNoise:
    white = np.zeros((len(draws), num_samples), np.float32)
    for row, draw in zip(white, draws, strict=True):
        row[: len(draw.white)] = draw.white
    snr_db = torch.tensor([[draw.snr_db] for draw in draws], dtype=torch.float64)
    return BatchNoise(
        torch.from_numpy(white), _design([draw.notches for draw in draws], sample_rate_hz), snr_db
    )
