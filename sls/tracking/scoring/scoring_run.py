"""Scoring as a tracked run: the model, the trials, and the score file."""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.data.conditions.conditions import Condition
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.loading.trial_lists import TrialList
from sls.data.tables.score_files import lay_out
from sls.engine.compute.device import resolve_device
from sls.engine.compute.ranks import Ranks
from sls.engine.scoring.forward_pass import linear_arithmetic, resolve_batch_size
from sls.engine.scoring.loop import ScoringJob, ScoringSummary, score_shard
from sls.engine.scoring.partial_scores import WHOLE, Shard, join_shards, partial_path, read_partial
from sls.engine.scoring.settings import describe_condition, scores_key, settings_of
from sls.models.checkpoints import LoadedCheckpoint, load_checkpoint
from sls.processes import hold_lock, read_holder, this_process
from sls.quotation import count_of
from sls.tracking import provenance
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import (
    OUTPUT_DIRECTORY,
    check_output,
    describe_scores,
    fetch_finished,
    is_finished,
    known_batch_size,
    record_score_file,
    remove_output,
    write_score_file,
)

INCOMPLETE_DIRECTORY = "incomplete"
WARNINGS_FILE = "warnings.json"
SHARD_KIND = "score-shard"


@dataclass(frozen=True)
class ScoringOptions:
    """How a list of trials is scored."""

    compute: ComputeConfig
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    shard: Shard = WHOLE
    force: bool = False
    """Score anew, whatever is there."""
    condition: Condition | None = None
    """What degrades the recordings before they are scored."""


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
    checkpoint: LoadedCheckpoint | None = None,
) -> ScoredList:
    """Scores a list of trials and records the score file on a run.

    What an earlier process left of the same model, protocol and settings is continued; a finished result is
    recorded as it is.

    Args:
        run: The run to record on.
        model: The checkpoint.
        trials: What to score.
        options: Device, workers, batch size, windows, and which shard.
        output: The score file to write, with its JSON beside it; None for a place that depends on model,
            protocol and settings alone.
        on_batch: Called with the number of trials of each batch, for a progress bar.
        ranks: The processes of this launch; each scores a shard, and the first one calls this function.
        checkpoint: That of the model, where it is loaded already.

    Raises:
        ValueError: recordings cannot be read. No score file is written; up to `max_failures` of them, the
            scores of the others and the list of failures are artifacts of the run. Or another process is at
            work on the output, or it holds scores of something else.
    """
    ranks, shard = ranks or Ranks(), options.shard
    if shard != WHOLE and ranks.world_size > 1:
        raise ValueError(f"shard: found {shard} in a launch of {ranks.world_size} processes, expected none")
    job, key = prepare_scoring(model, trials, options, output, ranks, checkpoint)
    path, size = job.output, job.batches.batch_size
    describe_scores(run, job.made_with, key)
    run.set_tags({"eval_batch_size": size})
    if shard != WHOLE:
        # Not the kind that evaluations look for: a shard has no score file.
        run.set_tags({"kind": SHARD_KIND, "shard": shard})
    with hold_lock(path) if shard == WHOLE else nullcontext():
        if options.force:
            remove_output(path, shard)
        elif output is None and not path.is_file():
            fetch_finished(run.client, run.experiment_id, key, path)
        if is_finished(path, job.made_with):
            ranks.share(None)
            run.set_tags({"scores_found": path})
            run.log_metrics({"score/num_kept": len(trials.trials)})
            summary = None
        else:
            settled = replace(options, compute=replace(options.compute, eval_batch_size=size))
            ranks.share((model, trials, settled, path.absolute(), this_process()))
            ranks.wait_for_all()
            summary = _score(run, job, options, ranks, on_batch)
        if summary is None or shard == WHOLE:
            record_score_file(run, path, model.tags())
    return ScoredList(path, summary)


def follow_scoring(ranks: Ranks) -> None:
    """Scores the shard of a process that is not the first of its launch; it talks to no server.

    Raises:
        ValueError: what `score_shard` raises, or the score file is not where the first process has it. All hear of
            it.
        ConnectionError: another process is gone.
    """
    plan = ranks.share(None)
    if plan is None:
        return
    model, trials, options, output, holder = plan
    with ranks.tell_failure():
        if read_holder(output) != holder:
            raise ValueError(
                f"{output}: found no lock of {holder}, expected a directory that all machines of the launch share"
            )
        job, _ = prepare_scoring(model, trials, options, output, ranks)
    ranks.wait_for_all()
    with ranks.tell_failure():
        summary = score_shard(job, _shards(ranks)[ranks.rank])
        if summary.failures:
            raise ValueError(
                f"{count_of(len(summary.failures), 'recording')} cannot be read: {summary.failures[0].message}"
            )
    ranks.wait_for_all(summary)


def prepare_scoring(
    model: ModelSource,
    trials: TrialList,
    options: ScoringOptions,
    output: Path | None,
    ranks: Ranks,
    checkpoint: LoadedCheckpoint | None = None,
) -> tuple[ScoringJob, str]:
    """Loads the checkpoint, unless it is, and settles device and batch size; talks to no server.

    Returns:
        What to score, and a key that is the same for the same model, protocol and settings.

    Raises:
        ValueError: an output that is a directory, not a checkpoint, a device that is not there, or an automatic batch
            size for a shard.
    """
    if output is not None:
        check_output(output)
    compute, scoring = options.compute, options.scoring
    device = ranks.own_device(resolve_device(compute.device))
    checkpoint = checkpoint or load_checkpoint(model.path, backend=compute.backend, place=model.uri)
    made_with = _describe(model, checkpoint, trials, options, device)
    key = scores_key(made_with)
    output = output or OUTPUT_DIRECTORY / key / f"{trials.name}.txt"
    info, size = checkpoint.info, compute.eval_batch_size
    if not size and options.shard != WHOLE:
        raise ValueError(
            "eval_batch_size: found 0 (automatic) with shard, expected a number, on which all shards agree"
        )
    if not size and not options.force:
        size = known_batch_size(output)
    size = size or resolve_batch_size(checkpoint.model, info.num_samples, compute, device)
    made_with["eval_batch_size"] = size
    audio = AudioConfig(sample_rate=info.sample_rate_hz, audio_max_len=info.num_samples)
    dataset = TrialDataset(trials.trials, audio)
    batches = ScoringBatches(dataset, size, scoring.window_hop, scoring.resampler, options.condition)
    return ScoringJob(checkpoint.model, batches, compute, scoring, device, output, made_with), key


def _describe(
    model: ModelSource,
    checkpoint: LoadedCheckpoint,
    trials: TrialList,
    options: ScoringOptions,
    device: torch.device,
) -> dict[str, Any]:
    """Returns what scores are made with: where they come from, then all that decides over them.

    Recordings count by name and path; one whose content changes in its place is not noticed.
    """
    protocol = trials.protocol
    names = "".join(f"{trial.name}\t{trial.path}\n" for trial in trials.trials)
    return {
        "track": trials.name,
        "corpus": trials.corpus,
        "model": model.uri,
        "protocol": str(protocol.source) if protocol else "",
        "counts": protocol.counts() if protocol else {},
        "model_tags": model.tags(),
        "versions": provenance.package_versions(),
        "hardware": provenance.hardware(),
        "checkpoint_sha256": checkpoint.digest,
        "protocol_sha256": protocol.digest if protocol else "",
        "recordings_sha256": hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
        "num_trials": len(trials.trials),
        "sample_rate": checkpoint.info.sample_rate_hz,
        "audio_max_len": checkpoint.info.num_samples,
        **settings_of(options.compute, options.scoring),
        **describe_condition(options.condition),
        "device": device.type,
        "linear_layers": linear_arithmetic(options.compute, device),
        "eval_batch_size": options.compute.eval_batch_size,
    }


def _shards(ranks: Ranks) -> list[Shard]:
    """Returns what each process of a launch scores."""
    return [Shard(number, ranks.world_size) for number in range(1, ranks.world_size + 1)]


def _score(
    run: TrackedRun,
    job: ScoringJob,
    options: ScoringOptions,
    ranks: Ranks,
    on_batch: Callable[[int], None] | None,
) -> ScoringSummary:
    """Scores a shard, or all together with the other processes of the launch; then the score file is written."""
    shards, is_whole = _shards(ranks), options.shard == WHOLE
    shard = shards[0] if is_whole else options.shard
    summary = score_shard(job, shard, on_batch, is_anew=options.force)
    if summary.failures:
        run.log_metrics(summary.metrics())
        _keep_incomplete(run, partial_path(job.output, shard), summary)
    summary = ScoringSummary.total(ranks.wait_for_all(summary))
    run.log_metrics(summary.metrics())
    if summary.warnings:
        run.log_json(summary.warnings, WARNINGS_FILE)
    if is_whole:
        write_score_file(job.output, *join_shards(job.output, shards))
    return summary


def _keep_incomplete(run: TrackedRun, partial: Path, summary: ScoringSummary) -> NoReturn:
    """Keeps what was scored apart from any score file, with the list of failures, and fails the run."""
    failures, found = summary.failures, read_partial(partial)
    with run.artifacts(INCOMPLETE_DIRECTORY) as directory:
        if scored := "".join(lay_out(found.lines()) if found else ()):
            (directory / "scored.txt").write_text(scored, encoding="utf-8")
        lines = [f"{failure.name}\t{failure.message}\n" for failure in failures]
        (directory / "failures.tsv").write_text("".join(lines), encoding="utf-8")
    raise ValueError(
        f"{len(failures)} of {summary.num_trials + summary.num_kept} recordings cannot be read, so there is no "
        f"score file; first: {failures[0].message}; the list and the other scores are the run's artifacts "
        f"{INCOMPLETE_DIRECTORY}/failures.tsv and {INCOMPLETE_DIRECTORY}/scored.txt"
    )
