"""Scoring as a tracked run: the model, the trials, and the score file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sls.config import AudioConfig, ComputeConfig
from sls.data.corpus import Corpus
from sls.data.dataset import TrialDataset
from sls.data.protocols import Protocol, Trial
from sls.data.scores import write_scores
from sls.engine.device import resolve_device
from sls.engine.scoring import score
from sls.models.checkpoints import load_checkpoint
from sls.tracking import provenance
from sls.tracking.checkpoints import ModelSource
from sls.tracking.runs import TrackedRun

SCORES_DIRECTORY = "scores"


@dataclass(frozen=True)
class TrialList:
    """What is scored: trials, where they come from, and what to call them."""

    name: str
    """The track's name, or that of the protocol."""
    corpus: str
    trials: list[Trial]
    protocol: Protocol | None
    """The file that lists them, or None for a directory of audio."""


def track_trials(corpus: Corpus, name: str) -> TrialList:
    """Finds the trials of a track.

    Raises:
        FileNotFoundError: the protocol or a recording is missing.
        ValueError: there is no such track, or its protocol is malformed.
    """
    track = corpus.track(name)
    return TrialList(name, corpus.name, track.trials(corpus.data_root), track.protocol(corpus.data_root))


@dataclass(frozen=True)
class ScoreSidecar:
    """What a score file was made with; written beside it as JSON."""

    track: str
    corpus: str
    model: str
    checkpoint_sha256: str
    protocol: str
    protocol_sha256: str
    num_trials: int
    precision: str
    device: str
    versions: dict[str, str]
    hardware: dict[str, str | int | float]


def track_scoring(
    run: TrackedRun,
    model: ModelSource,
    trials: TrialList,
    compute: ComputeConfig,
    output: Path,
    on_batch: Callable[[int], None] | None = None,
) -> Path:
    """Scores a list of trials and records the score file on a run.

    Args:
        run: the run to record on.
        model: the checkpoint.
        trials: what to score.
        compute: device, workers and batch size.
        output: the score file to write; beside it, `output` with `.json` added, goes what it was made with.
        on_batch: called with the number of trials of each batch, for a progress bar.

    Returns:
        The score file: whole, with one line for each trial in the order of the protocol.
    """
    device = resolve_device(compute.device)
    checkpoint = load_checkpoint(model.path)
    info = checkpoint.info
    run.set_tags(
        {
            "track": trials.name,
            "corpus": trials.corpus,
            "checkpoint_sha256": checkpoint.digest,
            **model.tags(),
        }
    )
    if trials.protocol is not None:
        run.log_dataset(trials.protocol, f"{trials.corpus}-{trials.name}", "scoring")
        run.set_tags({"protocol_sha256": trials.protocol.digest})
    audio = AudioConfig(sample_rate=info.sample_rate_hz, audio_max_len=info.num_samples)
    dataset = TrialDataset(trials.trials, audio, None, seed=0)
    scores = np.full(len(trials.trials), np.nan, dtype=np.float32)
    start_s = time.perf_counter()
    for batch in score(checkpoint.model, dataset, compute, device):
        scores[batch.indices] = batch.scores
        if on_batch is not None:
            on_batch(len(batch.indices))
    duration_s = time.perf_counter() - start_s
    write_scores(output, [trial.name for trial in trials.trials], scores)
    sidecar = ScoreSidecar(
        trials.name,
        trials.corpus,
        model.uri,
        checkpoint.digest,
        str(trials.protocol.source) if trials.protocol else "",
        trials.protocol.digest if trials.protocol else "",
        len(scores),
        "fp32",
        str(device),
        provenance.package_versions(),
        provenance.hardware(),
    )
    sidecar_path = output.with_name(output.name + ".json")
    sidecar_path.write_text(json.dumps(asdict(sidecar), indent=2) + "\n", encoding="utf-8")
    run.log_file(output, SCORES_DIRECTORY)
    run.log_file(sidecar_path, SCORES_DIRECTORY)
    run.log_metrics(
        {"score/num_trials": len(scores), "score/utterances_per_second": len(scores) / duration_s}
    )
    return output
