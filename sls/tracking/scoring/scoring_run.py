"""Scoring as a tracked run: the model, the trials, and the score file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn

from sls.data.loading.trial_lists import TrialList
from sls.data.tables.score_files import write_scores
from sls.engine.compute.ranks import Ranks
from sls.engine.scoring.job import ScoringJob, ScoringSummary, incomplete_scores, run_shard
from sls.engine.scoring.partial_scores import read_journal
from sls.engine.scoring.shards import WHOLE, Shard, find_shards, join_shards, journal_path
from sls.files import hold_lock, scratch_directory, this_process
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.preparation import PreparedScoring, ScoringOptions, prepare_scoring
from sls.tracking.scoring.score_file import (
    describe_scores,
    fetch_finished,
    is_finished,
    record_score_file,
    remove_output,
    write_score_file,
)

INCOMPLETE_DIRECTORY = "incomplete"
SHARD_KIND = "score-shard"


@dataclass(frozen=True)
class ScoredList:
    """What came of scoring a list of trials."""

    path: Path
    """The score file; of a shard, the one that it will be joined to."""
    summary: ScoringSummary | None
    """None where a finished result was found."""


def track_scoring(
    run: TrackedRun,
    model: ModelSource,
    trials: TrialList,
    options: ScoringOptions,
    output: Path | None = None,
    on_batch: Callable[[int], None] | None = None,
    ranks: Ranks | None = None,
) -> ScoredList:
    """Scores a list of trials and records the score file on a run.

    What an earlier process left of the same model, protocol and settings is continued; a finished result is
    recorded as it is.

    Args:
        run: the run to record on.
        model: the checkpoint.
        trials: what to score.
        options: device, workers, batch size, windows, and which shard.
        output: the score file to write, with its JSON beside it; None for a place that depends on model,
            protocol and settings alone.
        on_batch: called with the number of trials of each batch, for a progress bar.
        ranks: the processes of this launch; each scores a shard, and the first one calls this function.

    Raises:
        ValueError: recordings cannot be read. No score file is written; up to `max_failures` of them, the
            scores of the others and the list of failures are artifacts of the run. Or another process is at
            work on the output, or it holds scores of something else.
    """
    ranks = ranks or Ranks()
    if options.shard != WHOLE and ranks.world_size > 1:
        raise ValueError(
            f"shard: found {options.shard} in a launch of {ranks.world_size} processes, expected none"
        )
    prepared = prepare_scoring(model, trials, options, output, ranks)
    path, shard = prepared.output, options.shard
    describe_scores(run, prepared.job.header, prepared.key)
    run.set_tags({"eval_batch_size": prepared.job.batches.batch_size})
    if shard != WHOLE:
        # Not the kind that evaluations look for: a shard has no score file.
        run.set_tags({"kind": SHARD_KIND, "shard": shard})
    with hold_lock(path if shard == WHOLE else journal_path(path, shard)):
        if options.force:
            remove_output(path, shard)
        if _is_finished(run, prepared, may_fetch=output is None and not options.force):
            ranks.share(None)
            summary = None
            run.set_tags({"scores_found": path})
            run.log_metrics({"score/num_kept": len(trials.trials)})
        else:
            summary = _score(run, prepared, ranks, on_batch)
        if summary is None or shard == WHOLE:
            record_score_file(run, path, model.tags())
    return ScoredList(path, summary)


def _is_finished(run: TrackedRun, prepared: PreparedScoring, *, may_fetch: bool) -> bool:
    """Whether the score file is there, or else was kept by an earlier run, and is now."""
    path, binding = prepared.output, prepared.job.header.binding
    return is_finished(path, binding) or (
        may_fetch
        and fetch_finished(run.client, run.experiment_id, prepared.key, path)
        and is_finished(path, binding)
    )


def _score(
    run: TrackedRun, prepared: PreparedScoring, ranks: Ranks, on_batch: Callable[[int], None] | None
) -> ScoringSummary:
    """Scores a shard, or all together with the other processes of the launch; then the score file is written."""
    job, path, shard = prepared.job, prepared.output, prepared.options.shard
    if ranks.world_size > 1:
        _share(prepared, ranks)
        shard = Shard.of_process(ranks)
    summary = run_shard(job, path, shard, on_batch)
    if summary.failures:
        _record_summary(run, summary)
        _keep_incomplete(run, job, journal_path(path, shard), summary)
    summary = ScoringSummary.total(ranks.wait_for_all(summary))
    _record_summary(run, summary)
    if prepared.options.shard == WHOLE:
        contents = [read_journal(journal_path(path))] if ranks.world_size == 1 else find_shards(path)
        write_score_file(path, *join_shards(path, [content for content in contents if content]))
    return summary


def _share(prepared: PreparedScoring, ranks: Ranks) -> None:
    """Tells the other processes of the launch what to score; the batch size is settled."""
    options, size = prepared.options, prepared.job.batches.batch_size
    shared = replace(options, compute=replace(options.compute, eval_batch_size=size))
    ranks.share((prepared.model, prepared.trials, shared, prepared.output.absolute(), this_process()))
    ranks.wait_for_all()


def _record_summary(run: TrackedRun, summary: ScoringSummary) -> None:
    times = {f"score/{name}": seconds for name, seconds in asdict(summary.times).items()}
    run.log_metrics(
        {
            "score/num_trials": summary.num_trials + summary.num_kept,
            "score/num_kept": summary.num_kept,
            "score/num_failures": len(summary.failures),
            "score/utterances_per_second": summary.utterances_per_second,
            **times,
        }
    )


def _keep_incomplete(run: TrackedRun, job: ScoringJob, journal: Path, summary: ScoringSummary) -> NoReturn:
    """Keeps what was scored apart from any score file, with the list of failures, and fails the run."""
    failures = summary.failures
    names, scores = incomplete_scores(job, journal, summary)
    with scratch_directory() as directory:
        if names:
            write_scores(directory / "scored.txt", names, scores)
        lines = [f"{failure.name}\t{failure.message}\n" for failure in failures]
        (directory / "failures.tsv").write_text("".join(lines), encoding="utf-8")
        run.log_directory(directory, INCOMPLETE_DIRECTORY)
    raise ValueError(
        f"{len(failures)} of {summary.num_trials + summary.num_kept} recordings cannot be read, so there is no "
        f"score file; first: {failures[0].message}; the list and the other scores are the run's artifacts "
        f"{INCOMPLETE_DIRECTORY}/failures.tsv and {INCOMPLETE_DIRECTORY}/scored.txt"
    )
