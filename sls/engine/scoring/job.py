"""A scoring job: what to score with what, into a journal that the next process continues if this one is killed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.data.loading.loader import AudioFailure
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.data.tables.score_files import check_names
from sls.engine.scoring.loop import ScoredBatch, StageTimes, linear_arithmetic, score
from sls.engine.scoring.partial_scores import JournalHeader, ScoreJournal, read_journal
from sls.engine.scoring.settings import REMEDY, settings_of
from sls.engine.scoring.shards import WHOLE, Shard, journal_path
from sls.files import hold_lock


@dataclass(frozen=True)
class ScoringJob:
    """All that scoring needs, with the batch size settled."""

    model: nn.Module
    batches: ScoringBatches
    compute: ComputeConfig
    scoring: ScoringConfig
    device: torch.device
    header: JournalHeader

    @property
    def num_batches(self) -> int:
        """Batches of the whole list of trials."""
        return len(self.batches)


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
    incomplete: list[ScoredBatch] = field(default_factory=list)
    """Batches with failures. They are not in the journal, so that the next run tries their recordings again."""

    @classmethod
    def total(cls, summaries: Sequence[ScoringSummary]) -> ScoringSummary:
        """Returns what the processes of a launch did side by side; the seconds of stages are added up."""
        return cls(
            sum(summary.num_trials for summary in summaries),
            sum(summary.num_kept for summary in summaries),
            max(summary.duration_s for summary in summaries),
            sum((summary.times for summary in summaries), StageTimes()),
        )

    @property
    def utterances_per_second(self) -> float:
        """Of what was scored now."""
        return self.num_trials / self.duration_s if self.duration_s else 0.0


def bind(
    trials: Sequence[Trial],
    checkpoint_sha256: str,
    protocol_sha256: str,
    audio: AudioConfig,
    compute: ComputeConfig,
    scoring: ScoringConfig,
    device: torch.device,
) -> dict[str, Any]:
    """Returns all that decides over scores, by name, for a journal and for finding finished scores.

    Recordings count by name and path; one whose content changes in its place is not noticed.
    """
    names = hashlib.sha256()
    for trial in trials:
        names.update(f"{trial.name}\t{trial.path}\n".encode(errors="surrogateescape"))
    return {
        "checkpoint_sha256": checkpoint_sha256,
        "protocol_sha256": protocol_sha256,
        "recordings_sha256": names.hexdigest(),
        "num_trials": len(trials),
        "sample_rate": audio.sample_rate,
        "audio_max_len": audio.audio_max_len,
        **settings_of(compute, scoring),
        "device": device.type,
        "linear_layers": linear_arithmetic(compute, device),
        "eval_batch_size": compute.eval_batch_size,
    }


def run_shard(
    job: ScoringJob, output: Path, shard: Shard = WHOLE, on_batch: Callable[[int], None] | None = None
) -> ScoringSummary:
    """Scores what of a shard its journal does not hold yet, and holds the lock of that journal.

    Args:
        job: What to score.
        output: The score file, beside which the journal is kept.
        shard: Which part.
        on_batch: Called with the number of trials of each batch, those of earlier processes first.

    Raises:
        ValueError: The journal is of something else, another process is at work on it; or what `score` raises.
    """
    names = [job.batches.trials.name(index) for index in range(len(job.batches.trials))]
    check_names(output, names)
    summary = ScoringSummary()
    path = journal_path(output, shard)
    with hold_lock(path), ScoreJournal(path, job.header, REMEDY) as journal:
        wanted = shard.batches(job.num_batches)
        missing = [number for number in wanted if number not in journal.done]
        is_missing = set(missing)
        kept = (len(job.batches.members(number)) for number in wanted if number not in is_missing)
        summary.num_kept = sum(kept)
        if on_batch is not None:
            on_batch(summary.num_kept)
        start_s = time.perf_counter()
        for batch in score(job.model, job.batches, missing, job.compute, job.scoring, job.device):
            if batch.failures:
                summary.failures += batch.failures
                summary.incomplete.append(batch)
            else:
                journal.append(batch.number, names[batch.trials.start : batch.trials.stop], batch.scores)
            summary.num_trials += len(batch.trials)
            summary.times += batch.times
            if on_batch is not None:
                on_batch(len(batch.trials))
        summary.duration_s = time.perf_counter() - start_s
    return summary


def incomplete_scores(
    job: ScoringJob, journal: Path, summary: ScoringSummary
) -> tuple[list[str], np.ndarray]:
    """Returns names and scores of all trials that have one, where recordings could not be read."""
    content = read_journal(journal)
    words = [word for batch in (content.batches.values() if content else ()) for word in batch]
    names, scores = words[::2], [float(word) for word in words[1::2]]
    for batch in summary.incomplete:
        for index, value in zip(batch.trials, batch.scores.tolist(), strict=True):
            if value == value:  # NaN where the recording could not be read
                names.append(job.batches.trials.name(index))
                scores.append(value)
    return names, np.array(scores)
