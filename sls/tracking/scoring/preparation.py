"""A scoring job made ready, without a word to the tracking server: each process of a launch does this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.loading.trial_lists import TrialList
from sls.engine.compute.device import resolve_device
from sls.engine.compute.ranks import Ranks
from sls.engine.scoring.batch_size import resolve_batch_size
from sls.engine.scoring.job import ScoringJob, bind, run_shard
from sls.engine.scoring.partial_scores import JournalHeader
from sls.engine.scoring.settings import binding_key
from sls.engine.scoring.shards import WHOLE, Shard
from sls.files import read_holder
from sls.models.checkpoints import load_checkpoint
from sls.tracking import provenance
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.scoring.score_file import check_output, default_output, known_batch_size


@dataclass(frozen=True)
class ScoringOptions:
    """How a list of trials is scored."""

    compute: ComputeConfig
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    shard: Shard = WHOLE
    force: bool = False
    """Score anew, whatever is there."""


@dataclass(frozen=True)
class PreparedScoring:
    """A scoring job, what it was made from, and where its scores go."""

    model: ModelSource
    trials: TrialList
    options: ScoringOptions
    job: ScoringJob
    output: Path
    key: str
    """The same for the same model, protocol and settings."""


def prepare_scoring(
    model: ModelSource, trials: TrialList, options: ScoringOptions, output: Path | None, ranks: Ranks
) -> PreparedScoring:
    """Loads the checkpoint and settles device and batch size; talks to no server.

    Raises:
        ValueError: an output that is a directory, not a checkpoint, a device that is not there, or an automatic batch
            size for a shard.
    """
    if output is not None:
        check_output(output)
    compute = options.compute
    device = ranks.own_device(resolve_device(compute.device))
    checkpoint = load_checkpoint(model.path, backend=compute.backend)
    info = checkpoint.info
    audio = AudioConfig(sample_rate=info.sample_rate_hz, audio_max_len=info.num_samples)
    protocol_sha256 = trials.protocol.digest if trials.protocol else ""
    binding = bind(trials.trials, checkpoint.digest, protocol_sha256, audio, compute, options.scoring, device)
    key = binding_key(binding)
    output = output or default_output(trials.name, binding)
    size = _known_batch_size(options, output) or resolve_batch_size(
        checkpoint.model, info.num_samples, compute, device
    )
    binding["eval_batch_size"] = size
    scoring = options.scoring
    batches = ScoringBatches(TrialDataset(trials.trials, audio), size, scoring.window_hop, scoring.resampler)
    header = JournalHeader(binding, _describe(model, trials))
    job = ScoringJob(checkpoint.model, batches, compute, scoring, device, header)
    return PreparedScoring(model, trials, options, job, output, key)


def _known_batch_size(options: ScoringOptions, output: Path) -> int | None:
    """Returns the batch size of what is there of a score file, where it is taken over."""
    if options.compute.eval_batch_size:
        return None
    if options.shard != WHOLE:
        raise ValueError(
            "eval_batch_size: found 0 (automatic) with shard, expected a number, on which all shards agree"
        )
    return None if options.force else known_batch_size(output)


def _describe(model: ModelSource, trials: TrialList) -> dict[str, Any]:
    """Returns what a score file says of its origin beside what it is bound to."""
    return {
        "track": trials.name,
        "corpus": trials.corpus,
        "model": model.uri,
        "protocol": str(trials.protocol.source) if trials.protocol else "",
        "counts": trials.protocol.counts() if trials.protocol else {},
        "model_tags": model.tags(),
        "versions": provenance.package_versions(),
        "hardware": provenance.hardware(),
    }


def follow_scoring(ranks: Ranks) -> None:
    """Scores the shard of a process that is not the first of its launch; it talks to no server.

    Raises:
        ValueError: what `run_shard` raises, or the score file is not where the first process has it. All hear of it.
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
        prepared = prepare_scoring(model, trials, options, output, ranks)
    ranks.wait_for_all()
    with ranks.tell_failure():
        summary = run_shard(prepared.job, output, Shard.of_process(ranks))
        if summary.failures:
            raise ValueError(
                f"{len(summary.failures)} recordings cannot be read: {summary.failures[0].message}"
            )
    ranks.wait_for_all(summary)
