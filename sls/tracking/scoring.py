"""Scoring as a tracked run: the model, the trials, and the score file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from sls.config import AudioConfig, ComputeConfig
from sls.data.corpus import Corpus
from sls.data.dataset import AudioFailure, TrialDataset
from sls.data.protocols import Protocol, Trial
from sls.data.scores import write_scores
from sls.data.trial_lists import find_trials, list_recordings, read_any_protocol
from sls.engine.device import resolve_device
from sls.engine.scoring import score
from sls.models.checkpoints import load_checkpoint
from sls.tracking import provenance
from sls.tracking.checkpoints import ModelSource
from sls.tracking.runs import TrackedRun, scratch_directory

SCORES_DIRECTORY = "scores"
INCOMPLETE_DIRECTORY = "incomplete"


@dataclass(frozen=True)
class TrialList:
    """What is scored: trials, where they come from, and what to call them."""

    name: str
    """The track's name, or that of the protocol."""
    corpus: str
    trials: list[Trial]
    protocol: Protocol | None
    """The file that lists them, or None for a directory of audio."""


def track_trials(corpus: Corpus, name: str, *, require_audio: bool = True) -> TrialList:
    """Finds the trials of a track.

    Args:
        corpus: where it lies.
        name: the track.
        require_audio: raise where a recording is missing; otherwise it is a failure of the scoring run.

    Raises:
        FileNotFoundError: the protocol or a recording is missing.
        ValueError: there is no such track, or its protocol is malformed.
    """
    track = corpus.track(name)
    trials = track.trials(corpus.data_root, require_audio=require_audio)
    return TrialList(name, corpus.name, trials, track.protocol(corpus.data_root))


def listed_trials(
    protocol: Path | None, audio_dir: Path, tracks: str = "", *, require_audio: bool = True
) -> TrialList:
    """Finds the trials of any protocol and audio directory, or, without a protocol, all recordings in it.

    Raises:
        FileNotFoundError: the protocol, the directory or a recording is missing.
        ValueError: the protocol is malformed.
    """
    if protocol is None:
        return TrialList(audio_dir.name, audio_dir.name, list_recordings(audio_dir), None)
    listed = read_any_protocol(protocol, tracks or None)
    trials = find_trials(listed, audio_dir, require_audio=require_audio)
    return TrialList(protocol.stem, audio_dir.name, trials, listed)


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
    backend: str
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

    Raises:
        ValueError: recordings cannot be read. No score file is written; up to `max_failures` of them, the
            scores of the others and the list of failures are artifacts of the run.
    """
    device = resolve_device(compute.device)
    checkpoint = load_checkpoint(model.path, backend=compute.backend)
    info = checkpoint.info
    run.set_tags(
        {
            "track": trials.name,
            "corpus": trials.corpus,
            "checkpoint_sha256": checkpoint.digest,
            "precision": compute.precision,
            **model.tags(),
        }
    )
    if trials.protocol is not None:
        run.log_dataset(trials.protocol, f"{trials.corpus}-{trials.name}", "scoring")
        run.set_tags({"protocol": trials.protocol.source, "protocol_sha256": trials.protocol.digest})
    audio = AudioConfig(sample_rate=info.sample_rate_hz, audio_max_len=info.num_samples)
    dataset = TrialDataset(trials.trials, audio)
    scores = np.full(len(trials.trials), np.nan, dtype=np.float32)
    failures: list[AudioFailure] = []
    start_s = time.perf_counter()
    for batch in score(checkpoint.model, dataset, compute, device):
        scores[batch.indices] = batch.scores
        failures += batch.failures
        if on_batch is not None:
            on_batch(len(batch.indices) + len(batch.failures))
    duration_s = time.perf_counter() - start_s
    run.log_metrics({"score/num_trials": len(scores), "score/num_failures": len(failures)})
    run.log_metrics({"score/utterances_per_second": len(scores) / duration_s})
    names = np.array([trial.name for trial in trials.trials], dtype=object)
    if failures:
        _keep_incomplete(run, names, scores, failures)
    sidecar = ScoreSidecar(
        trials.name,
        trials.corpus,
        model.uri,
        checkpoint.digest,
        str(trials.protocol.source) if trials.protocol else "",
        trials.protocol.digest if trials.protocol else "",
        len(scores),
        compute.precision,
        compute.backend,
        str(device),
        provenance.package_versions(),
        provenance.hardware(),
    )
    with scratch_directory() as directory:
        # The JSON goes first: a score file that is there is whole, and says what it was made with.
        staged = directory / f"{output.name}.json"
        staged.write_text(json.dumps(asdict(sidecar), indent=2) + "\n", encoding="utf-8")
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(staged, output.with_name(staged.name))
        write_scores(output, names, scores)
        run.log_file(staged, SCORES_DIRECTORY)
        run.log_file(output, SCORES_DIRECTORY)
    return output


def _keep_incomplete(
    run: TrackedRun, names: np.ndarray, scores: np.ndarray, failures: Sequence[AudioFailure]
) -> NoReturn:
    """Keeps what was scored apart from any score file, with the list of failures, and fails the run."""
    is_scored = ~np.isnan(scores)
    with scratch_directory() as directory:
        write_scores(directory / "scored.txt", names[is_scored], scores[is_scored])
        lines = [f"{failure.name}\t{failure.message}\n" for failure in failures]
        (directory / "failures.tsv").write_text("".join(lines), encoding="utf-8")
        run.log_directory(directory, INCOMPLETE_DIRECTORY)
    raise ValueError(
        f"{len(failures)} of {len(names)} recordings cannot be read, so there is no score file; "
        f"first: {failures[0].message}; the list and the other scores are the run's artifacts "
        f"{INCOMPLETE_DIRECTORY}/failures.tsv and {INCOMPLETE_DIRECTORY}/scored.txt"
    )
