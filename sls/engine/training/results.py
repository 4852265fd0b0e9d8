"""What training yields: its steps and its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sls.models.countermeasure import Countermeasure


@dataclass(frozen=True)
class StepResult:
    """What one step gave."""

    epoch: int
    step: int
    """Steps of the optimizer since the beginning of training, from 0."""
    num_steps: int
    """Steps in an epoch."""
    loss: float
    """Of its last batch."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """Epochs count from 0."""
    metrics: Mapping[str, float]
    """Values by metric name: `train/loss`, `val/eer_percent` and so on."""
    is_best: bool
    """Whether the monitored loss is the lowest so far."""
    is_last: bool
    """Whether training ends here."""
    model: Countermeasure
    """The epoch's countermeasure, averaged where that is set; valid until the next epoch is asked for."""
