"""Evaluation as a tracked run: a score file against a key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Dataset

from sls.data.corpus import Corpus
from sls.data.scores import JoinedScores, join_scores, read_scores
from sls.engine.breakdown import BootstrapSettings
from sls.engine.calibration import fit_calibration, load_calibration, save_calibration
from sls.engine.evaluation import Evaluation, evaluate
from sls.tracking.comparison_view import NOT_COMPARABLE_TAG
from sls.tracking.evaluation_inputs import CALIBRATION_FILE, ScoreSource
from sls.tracking.lineage import link_checkpoint
from sls.tracking.registry import note_evaluation
from sls.tracking.report import REPORT_DIRECTORY, write_evaluation_data, write_evaluation_report
from sls.tracking.runs import TrackedRun, scratch_directory


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, and how; what is not given is the track's own."""

    track: str
    subset: str = ""
    """eval, progress, hidden or all."""
    key: Path | None = None
    """A key file or directory; None looks under the corpus."""
    asv_scores: Path | None = None
    """ASV scores, where the key does not bring them."""
    allow_partial: bool = False
    """Take the trials that all scores and the key share, where they do not cover each other."""
    num_resamples: int = BootstrapSettings().num_resamples
    """Bootstrap resamples for each interval; 0 for no intervals."""
    calibration: Path | None = None
    """A calibration to apply, as JSON."""
    fit_calibration: str = ""
    """Fit a calibration on these scores: logistic or pav."""
    is_illustrated: bool = True
    """Draw the report, a page with figures; otherwise its numbers alone are kept, as JSON."""


def track_evaluation(
    run: TrackedRun, source: ScoreSource, corpus: Corpus, request: EvaluationRequest
) -> Evaluation:
    """Evaluates a score file and records the result on a run, on its checkpoint and on its registered version.

    Raises:
        FileNotFoundError: the key is missing.
        ValueError: scores and key do not cover the same trials, or one of them is malformed.
    """
    track = corpus.track(request.track)
    subset = request.subset or track.default_subset
    table = read_scores(source.path, source.name)
    key = track.key(corpus.data_root, request.key)
    run.set_tags(
        {
            "track": track.name,
            "corpus": corpus.name,
            "subset": subset,
            "scores": source.name,
            "scores_sha256": table.digest,
            "key": str(key.source),
            "key_sha256": key.digest,
            **source.tags,
        }
    )
    if source.run_id:
        run.set_tags({"score_run_id": source.run_id})
    joined = join_scores(table, key, allow_partial=request.allow_partial)
    if request.fit_calibration:
        _fit_calibration(run, joined.select_subset(subset), request.fit_calibration)
    evaluation = evaluate(
        joined,
        track=track.name,
        system=source.system,
        corpus=corpus.name,
        subset=subset,
        metrics=track.metrics,
        breakdown=(*track.breakdown, "speaker"),
        asv=track.asv_scores(corpus.data_root, request.key, request.asv_scores, subset),
        calibration=load_calibration(request.calibration) if request.calibration else None,
        settings=BootstrapSettings(num_resamples=request.num_resamples),
    )
    dataset = run.log_dataset(key, f"{corpus.name}-{track.name}-key", "evaluation")
    _record(run, source, evaluation, dataset, is_illustrated=request.is_illustrated)
    is_default = subset == track.default_subset
    if not (is_default and joined.coverage.is_complete):
        reason = "some of the trials" if is_default else f"subset {subset}"
        run.set_tags({NOT_COMPARABLE_TAG: reason})
    elif "model_id" in source.tags:
        note_evaluation(run.client, source.tags["model_id"], track.name, evaluation.metrics(), key.digest)
    link_checkpoint(run.client, source.tags.get("model_id", ""), source.tags.get("train_run_id", ""))
    return evaluation


def _fit_calibration(run: TrackedRun, joined: JoinedScores, method: str) -> None:
    """Fits and keeps a calibration; it is not applied to the scores on which it was fitted."""
    calibration = fit_calibration(joined, method)
    with scratch_directory() as directory:
        save_calibration(directory / CALIBRATION_FILE, calibration)
        run.log_file(directory / CALIBRATION_FILE)


def _record(
    run: TrackedRun, source: ScoreSource, evaluation: Evaluation, dataset: Dataset, *, is_illustrated: bool
) -> None:
    metrics = {f"{evaluation.track}/{name}": value for name, value in evaluation.metrics().items()}
    run.log_metrics(metrics, model_id=source.tags.get("model_id"), dataset=dataset)
    if evaluation.warnings:
        run.set_tags({"warnings": " ".join(evaluation.warnings)})
    with scratch_directory() as directory:
        write = write_evaluation_report if is_illustrated else write_evaluation_data
        write(evaluation, directory)
        run.log_directory(directory, REPORT_DIRECTORY)
