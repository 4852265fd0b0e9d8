"""Evaluation as a tracked run: a score file against a key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sls.data.corpora.corpus import Corpus
from sls.data.tables.protocols import Protocol
from sls.data.tables.score_files import join_scores, read_scores
from sls.engine.evaluation.calibration import load_calibration
from sls.engine.evaluation.evaluation import Evaluation, evaluate
from sls.files import scratch_directory
from sls.reports.report import REPORT_DIRECTORY, write_evaluation_data, write_evaluation_report
from sls.tracking.evaluation.score_sources import ScoreSource
from sls.tracking.registry.calibrations import FittedCalibration, keep_calibration
from sls.tracking.registry.lineage import link_checkpoint, note_evaluations
from sls.tracking.run import TrackedRun
from sls.tracking.tags import NOT_COMPARABLE_TAG


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
    calibration: FittedCalibration | None = None
    """A calibration to apply."""
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
        ValueError: scores and key do not cover the same trials, or one of them is malformed; or a calibration
            of other scores.
    """
    track = corpus.track(request.track)
    subset = request.subset or track.default_subset
    table = read_scores(source.path, source.name)
    key = track.key(corpus.data_root, request.key)
    run.set_tags(
        {
            **source.tags,
            "track": track.name,
            "corpus": corpus.name,
            "subset": subset,
            "scores": source.name,
            "scores_sha256": table.digest,
            **key_tags(key),
            **({"score_run_id": source.run_id} if source.run_id else {}),
            **({"calibration": request.calibration.name} if request.calibration else {}),
        }
    )
    if request.calibration:
        request.calibration.check(source.tags, table.digest, subset)
    joined = join_scores(table, key, allow_partial=request.allow_partial)
    if request.fit_calibration:
        keep_calibration(run, joined.select_subset(subset), request.fit_calibration)
    evaluation = evaluate(
        joined,
        track=track.name,
        system=source.system,
        corpus=corpus.name,
        subset=subset,
        metrics=track.metrics,
        breakdown=(*track.breakdown, "speaker"),
        asv=track.asv_scores(corpus.data_root, request.key, request.asv_scores, subset),
        calibration=load_calibration(request.calibration.path) if request.calibration else None,
    )
    dataset = run.log_dataset(key, f"{corpus.name}-{track.name}-key", "evaluation")
    reasons = {
        f"subset {subset}": subset != track.default_subset,
        "some of the trials": not joined.coverage.is_complete,
        f"windows every {source.tags.get('window_hop')} samples": source.tags.get("window_hop", "0") != "0",
        "calibrated": request.calibration is not None,
    }
    not_comparable = ", ".join(reason for reason, holds in reasons.items() if holds)
    if not_comparable:
        run.set_tags({NOT_COMPARABLE_TAG: not_comparable})
    # The checkpoint itself gets figures that compare with those of others alone.
    model_id = None if not_comparable else source.tags.get("model_id")
    metrics = {f"{track.name}/{name}": value for name, value in evaluation.metrics().items()}
    run.log_metrics(metrics, model_id=model_id, dataset=dataset)
    _keep_report(run, evaluation, is_illustrated=request.is_illustrated)
    if "model_id" in source.tags:
        note_evaluations(run.client, source.tags["model_id"])
    link_checkpoint(run.client, source.tags.get("model_id", ""), source.tags.get("train_run_id", ""))
    return evaluation


def key_tags(key: Protocol) -> dict[str, str]:
    """Returns which key a figure rests on, and which list gave its speakers."""
    tags = {"key": str(key.source), "key_sha256": key.digest}
    if key.speakers is not None:
        tags |= {"speakers": str(key.speakers.source), "speakers_sha256": key.speakers.digest}
    return tags


def _keep_report(run: TrackedRun, evaluation: Evaluation, *, is_illustrated: bool) -> None:
    if evaluation.warnings:
        run.set_tags({"warnings": " ".join(evaluation.warnings)})
    with scratch_directory() as directory:
        write = write_evaluation_report if is_illustrated else write_evaluation_data
        write(evaluation, directory)
        run.log_directory(directory, REPORT_DIRECTORY)
