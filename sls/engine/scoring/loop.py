"""Scoring: the countermeasure over a list of trials, as a generator of scored batches.

The score of a trial is its log-probability of bona fide speech.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sls.config import ComputeConfig, ScoringConfig
from sls.data.audio.windows import combine_scores
from sls.data.loading.loader import AudioFailure, load_batches
from sls.data.loading.scoring_batches import ScoringBatch, ScoringBatches
from sls.data.tables.protocols import Label
from sls.engine.compute.memory import full_memory_raises
from sls.engine.compute.precision import arithmetic
from sls.models.compiling import compiled_for_scoring
from sls.models.packing import can_pack, packed_for_scoring


@dataclass(frozen=True)
class StageTimes:
    """Where the time went, in seconds: sums over the workers, and over the processes of a launch."""

    read_s: float = 0
    """In workers: files read."""
    decode_s: float = 0
    """In workers: decoded, resampled and cut."""
    wait_s: float = 0
    """In the main process: waiting for batches."""
    compute_s: float = 0
    """In the main process: the countermeasure."""

    def __add__(self, other: StageTimes) -> StageTimes:
        return StageTimes(
            self.read_s + other.read_s,
            self.decode_s + other.decode_s,
            self.wait_s + other.wait_s,
            self.compute_s + other.compute_s,
        )


@dataclass(frozen=True)
class ScoredBatch:
    """The scores of one batch of trials."""

    number: int
    trials: range
    """Places of the trials in the dataset."""
    scores: np.ndarray
    """log P(bona fide), NaN where a recording cannot be read: `(trials,)` float32."""
    failures: tuple[AudioFailure, ...]
    """Trials whose recordings cannot be read."""
    times: StageTimes


def score(
    model: nn.Module,
    batches: ScoringBatches,
    numbers: Sequence[int],
    compute: ComputeConfig,
    scoring: ScoringConfig,
    device: torch.device,
) -> Iterator[ScoredBatch]:
    """Scores batches of a list of trials, in the order of their numbers.

    A batch is launched before the scores of the one before it are waited for, so that a GPU has work at all times.

    Args:
        model: Waveforms `(batch, num_samples)` to log-probabilities `(batch, 2)`.
        batches: The trials.
        numbers: Which batches.
        compute: Workers, precision, and how many unreadable recordings to leave out.
        scoring: How the scores of the windows of a long recording become one.
        device: Where to run the model.

    Raises:
        ValueError: More recordings cannot be read than `max_failures`; a score that is not finite, with its
            trial; or a batch that does not fit into memory.
    """
    model.to(device).eval()
    with _prepared(model, compute, device):
        yield from _score_in_order(model, batches, numbers, compute, scoring, device)


def linear_arithmetic(compute: ComputeConfig, device: torch.device) -> Literal["compiled", "packed", "plain"]:
    """Returns how the encoder's linear layers are multiplied; it moves the last digits of the scores."""
    if compute.compile:
        return "compiled"
    is_packed = device.type == "cpu" and can_pack(_packed_dtype(compute))
    return "packed" if is_packed else "plain"


def _prepared(model: nn.Module, compute: ComputeConfig, device: torch.device) -> AbstractContextManager[None]:
    way = linear_arithmetic(compute, device)
    if way == "compiled":
        return compiled_for_scoring(model)
    return packed_for_scoring(model, _packed_dtype(compute)) if way == "packed" else nullcontext()


def _packed_dtype(compute: ComputeConfig) -> torch.dtype:
    return torch.bfloat16 if compute.precision == "bf16" else torch.float32


def _score_in_order(
    model: nn.Module,
    batches: ScoringBatches,
    numbers: Sequence[int],
    compute: ComputeConfig,
    scoring: ScoringConfig,
    device: torch.device,
) -> Iterator[ScoredBatch]:
    pending: _LaunchedBatch | None = None
    loaded = load_batches(
        batches,
        numbers,
        compute.num_workers,
        pin_memory=device.type == "cuda",
        max_failures=compute.max_failures,
    )
    start_s = time.perf_counter()
    for batch in loaded:
        wait_s = time.perf_counter() - start_s
        launched = _launch(model, batch, batches.batch_size, compute, device, wait_s)
        if pending is not None:
            yield pending.finish(batches, scoring)
        pending = launched
        start_s = time.perf_counter()
    if pending is not None:
        yield pending.finish(batches, scoring)


@dataclass
class _LaunchedBatch:
    """A batch whose scores the device may still be computing."""

    batch: ScoringBatch
    scores: Tensor
    """Of each window, on the CPU, once `is_done`."""
    is_done: torch.cuda.Event | None
    """None on a CPU, which is done at once."""
    wait_s: float
    launch_s: float

    def finish(self, batches: ScoringBatches, scoring: ScoringConfig) -> ScoredBatch:
        start_s = time.perf_counter()
        if self.is_done is not None:
            self.is_done.synchronize()
        scores = self.scores.numpy()
        of_trials = np.split(scores, np.cumsum(self.batch.window_counts)[:-1])
        combined = [
            combine_scores(of_trial, scoring.window_combination) if len(of_trial) else np.nan
            for of_trial in of_trials
        ]
        if not np.isfinite(scores).all():
            broken = next(i for i, of_trial in enumerate(of_trials) if not np.isfinite(of_trial).all())
            name = batches.trials.name(self.batch.trials[broken])
            raise ValueError(f"trial {name}: the score is not finite")
        compute_s = self.launch_s + time.perf_counter() - start_s
        times = StageTimes(self.batch.read_s, self.batch.decode_s, self.wait_s, compute_s)
        return ScoredBatch(
            self.batch.number,
            self.batch.trials,
            np.array(combined, dtype=np.float32),
            self.batch.failures,
            times,
        )


def score_windows(
    model: nn.Module, windows: Tensor, batch_size: int, compute: ComputeConfig, device: torch.device
) -> Tensor:
    """Returns the scores of windows, float32 on the device, at most `batch_size` of them at once.

    Args:
        model: Waveforms `(batch, num_samples)` to log-probabilities `(batch, 2)`.
        windows: Shape `(windows, num_samples)`.
        batch_size: Windows that go through the model at once.
        compute: The precision.
        device: Where the model is.

    Raises:
        ValueError: They do not fit into memory.
    """

    def explain_full_memory() -> ValueError:
        return ValueError(
            f"eval_batch_size: found {batch_size}, which does not fit into the memory of {device}; expected "
            "less, or 0 to find what fits"
        )

    # A program is compiled for one size.
    size = batch_size if compute.compile else 0
    with (
        full_memory_raises(explain_full_memory),
        torch.inference_mode(),
        arithmetic(compute.precision, device),
    ):
        parts = [
            model(_filled(part.to(device, non_blocking=True), size))[: len(part), Label.BONAFIDE].float()
            for part in windows.split(batch_size)
            if len(part)
        ]
        return torch.cat(parts) if parts else torch.empty(0)


def _filled(windows: Tensor, size: int) -> Tensor:
    """Returns windows `(windows, num_samples)` with silent ones behind them, up to a size."""
    return windows if len(windows) >= size else F.pad(windows, (0, 0, 0, size - len(windows)))


def _launch(
    model: nn.Module,
    batch: ScoringBatch,
    batch_size: int,
    compute: ComputeConfig,
    device: torch.device,
    wait_s: float,
) -> _LaunchedBatch:
    start_s = time.perf_counter()
    scores = score_windows(model, batch.windows, batch_size, compute, device)
    is_done = None
    if device.type == "cuda":
        # Asked for now: behind the next batch, the copy would wait for that one too.
        scores = scores.to("cpu", non_blocking=True)
        is_done = torch.cuda.Event()
        is_done.record(torch.cuda.current_stream(device))
    return _LaunchedBatch(batch, scores, is_done, wait_s, time.perf_counter() - start_s)
