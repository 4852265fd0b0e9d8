"""Scoring: a countermeasure over a list of trials, into a partial file that the next process continues.

The score of a trial is its log-probability of bona fide speech.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sls.config import ComputeConfig, ScoringConfig
from sls.data.audio.windows import combine_scores
from sls.data.loading.loader import AudioFailure, load_batches
from sls.data.loading.scoring_batches import ScoringBatch, ScoringBatches
from sls.data.tables.score_files import check_names
from sls.engine.compute.device import read_later
from sls.engine.scoring.forward_pass import prepared_for_scoring, score_windows
from sls.engine.scoring.partial_scores import WHOLE, PartialWriter, Shard, partial_path, read_partial
from sls.engine.scoring.settings import REMEDY, check_same
from sls.processes import hold_lock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringJob:
    """A list of trials and all that scoring it needs, with the batch size settled."""

    model: nn.Module
    """Waveforms `(batch, num_samples)` to log-probabilities `(batch, 2)`."""
    batches: ScoringBatches
    """The trials."""
    compute: ComputeConfig
    """Workers, precision, and how many unreadable recordings to leave out."""
    scoring: ScoringConfig
    """How the scores of the windows of a long recording become one."""
    device: torch.device
    """Where to run the model."""
    output: Path
    """The score file, beside which the partial files are kept."""
    made_with: Mapping[str, Any]
    """What the scores are made with."""


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
        return StageTimes(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ScoredBatch:
    """The scores of one batch of trials."""

    trials: range
    """Places of the trials in the dataset."""
    scores: np.ndarray
    """log P(bona fide), NaN where a recording cannot be read: `(trials,)` float32."""
    failures: tuple[AudioFailure, ...]
    """Trials whose recordings cannot be read."""
    warnings: dict[int, str]
    """By its place in the dataset, what makes the score of a trial less sure (silent, clipped, ...)."""
    times: StageTimes


@dataclass
class ScoringSummary:
    """What came of scoring a list of trials, or a shard of it."""

    num_trials: int = 0
    """Trials scored now."""
    num_kept: int = 0
    """Trials that an earlier process had scored."""
    duration_s: float = 0
    times: StageTimes = field(default_factory=StageTimes)
    failures: list[AudioFailure] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)
    """By the name of a trial scored now, what makes its score less sure."""

    @classmethod
    def total(cls, summaries: Sequence[ScoringSummary]) -> ScoringSummary:
        """Returns what the processes of a launch did side by side; the seconds of stages are added up."""
        return cls(
            sum(summary.num_trials for summary in summaries),
            sum(summary.num_kept for summary in summaries),
            max(summary.duration_s for summary in summaries),
            sum((summary.times for summary in summaries), StageTimes()),
            warnings={name: found for summary in summaries for name, found in summary.warnings.items()},
        )

    @property
    def utterances_per_second(self) -> float:
        """Of what was scored now."""
        return self.num_trials / self.duration_s if self.duration_s else 0.0

    def metrics(self) -> dict[str, float]:
        """Returns what is recorded of it, by name."""
        return {
            "score/num_trials": self.num_trials + self.num_kept,
            "score/num_kept": self.num_kept,
            "score/num_failures": len(self.failures),
            "score/num_warned": len(self.warnings),
            "score/utterances_per_second": self.utterances_per_second,
            **{f"score/{name}": seconds for name, seconds in asdict(self.times).items()},
        }


def score_shard(
    job: ScoringJob,
    shard: Shard = WHOLE,
    on_batch: Callable[[int], None] | None = None,
    *,
    is_anew: bool = False,
) -> ScoringSummary:
    """Scores what of a shard its partial file does not hold yet, and holds the lock of that file.

    Batches have fixed places in the list of trials, and are scored whole, so that a score does not depend on where
    an earlier process was cut.

    `on_batch` is called with the number of trials of each batch, those of earlier processes first; what is there is
    left aside where it is done anew.

    Raises:
        ValueError: The partial file is of something else, or another process is at work on it; or what `score`
            raises.
    """
    dataset, path = job.batches.trials, partial_path(job.output, shard)
    names = [dataset.name(index) for index in range(len(dataset))]
    check_names(job.output, names)
    summary = ScoringSummary()
    with hold_lock(path):
        found = None if is_anew else read_partial(path)
        if found is not None:
            check_same(found.made_with, job.made_with, path, REMEDY)
        missing = [
            number
            for number in shard.batches(len(job.batches))
            if found is None or not found.covers(names[index] for index in job.batches.members(number))
        ]
        of_shard = shard.trials(len(names), job.batches.batch_size)
        summary.num_kept = len(of_shard) - sum(len(job.batches.members(number)) for number in missing)
        if summary.num_kept:
            logger.info("%s: continuing after %d trials", path, summary.num_kept)
        if on_batch is not None:
            on_batch(summary.num_kept)
        with closing(PartialWriter(path, job.made_with, found)) as partial:
            found = None  # The scores of a million trials stay on the disk until the score file is written.
            start_s = time.perf_counter()
            for batch in score(job, missing):
                partial.append([names[index] for index in batch.trials], batch.scores.tolist())
                summary.failures += batch.failures
                summary.warnings |= {names[index]: found for index, found in batch.warnings.items()}
                summary.num_trials += len(batch.trials)
                summary.times += batch.times
                if on_batch is not None:
                    on_batch(len(batch.trials))
            summary.duration_s = time.perf_counter() - start_s
    return summary


def score(job: ScoringJob, numbers: Sequence[int]) -> Iterator[ScoredBatch]:
    """Scores batches of a list of trials, in the order of their numbers.

    A batch is launched before the scores of the one before it are waited for, so that a GPU has work at all times.

    Raises:
        ValueError: More recordings cannot be read than `max_failures`; a score that is not finite, with its
            trial; or a batch that does not fit into memory.
    """
    job.model.to(job.device).eval()
    pending: Callable[[], ScoredBatch] | None = None
    with prepared_for_scoring(job.model, job.compute, job.device):
        loaded = load_batches(
            job.batches,
            numbers,
            job.compute.num_workers,
            pin_memory=job.device.type == "cuda",
            max_failures=job.compute.max_failures,
        )
        start_s = time.perf_counter()
        for batch in loaded:
            launched = _launch(job, batch, time.perf_counter() - start_s)
            if pending is not None:
                yield pending()
            pending = launched
            start_s = time.perf_counter()
        if pending is not None:
            yield pending()


def _launch(job: ScoringJob, batch: ScoringBatch, wait_s: float) -> Callable[[], ScoredBatch]:
    """Launches a batch, whose scores the device may still be computing, and returns what waits for them."""
    start_s = time.perf_counter()
    scores = read_later(
        score_windows(job.model, batch.windows, job.batches.batch_size, job.compute, job.device)
    )
    warned = zip(batch.trials, batch.warnings, strict=True)
    warnings = {index: ", ".join(names) for index, names in warned if names}
    launch_s = time.perf_counter() - start_s

    def finish() -> ScoredBatch:
        """Waits for the scores, and combines those of the windows of each trial."""
        start_s = time.perf_counter()
        of_trials = np.split(scores().numpy(), np.cumsum(batch.window_counts)[:-1])
        for index, of_trial in zip(batch.trials, of_trials, strict=True):
            if not np.isfinite(of_trial).all():
                raise ValueError(f"trial {job.batches.trials.name(index)}: the score is not finite")
        combination = job.scoring.window_combination
        combined = [combine_scores(item, combination) if len(item) else np.nan for item in of_trials]
        compute_s = launch_s + time.perf_counter() - start_s
        times = StageTimes(batch.read_s, batch.decode_s, wait_s, compute_s)
        scores_of_trials = np.array(combined, dtype=np.float32)
        return ScoredBatch(batch.trials, scores_of_trials, batch.failures, warnings, times)

    return finish
