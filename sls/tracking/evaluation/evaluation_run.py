"""Evaluation and comparison as tracked runs: score files against a key."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Dataset

from sls.data.corpora.corpus import Corpus
from sls.data.tables.score_files import JoinedScores, join_scores, read_scores
from sls.engine.evaluation.calibration import load_calibration
from sls.engine.evaluation.comparison import compare, group_by_recipe
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.evaluation import Evaluation, EvaluationPlan, evaluate
from sls.reports.figure_style import describe, title_text
from sls.reports.report import REPORT_DIRECTORY, render_data, render_report
from sls.tracking.evaluation.score_sources import ScoreSource
from sls.tracking.registry.calibrations import FittedCalibration, keep_calibration
from sls.tracking.registry.lineage import link_checkpoint, read_lineage, refusals_warn
from sls.tracking.registry.model_card import note_evaluations
from sls.tracking.registry.parent_run import place_under_origin, renew_results
from sls.tracking.run import TrackedRun
from sls.tracking.tags import MODEL_ID_TAG, NOT_COMPARABLE_TAG, SCORE_RUN_TAG, TRAIN_RUN_TAG

logger = logging.getLogger(__name__)


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
    is_calibration_optional: bool = False
    """Where it cannot be fitted, warn of it and evaluate all the same."""
    score_column: str = ""
    """Which column of a score file of another form is the score, by number or name."""
    is_illustrated: bool = True
    """Draw the report, a page with figures; otherwise its numbers alone are kept, as JSON."""


class EvaluationBasis:
    """What the figures of a run rest on: a track, a subset of its trials, and the key, recorded on the run."""

    def __init__(
        self, run: TrackedRun, corpus: Corpus, request: EvaluationRequest, *, is_one_of_several: bool = False
    ) -> None:
        """Reads the key that a request names, and records it; of several tracks, by the name of the track."""
        self.run, self.corpus, self.request = run, corpus, request
        self.track = corpus.track(request.track)
        self.subset = request.subset or self.track.default_subset
        self.key = self.track.key(corpus.data_root, request.key)
        self.key.subset_mask(self.subset)  # what is typed is held against the key before other files are read
        tags: dict[str, object] = {"key": self.key.source, "key_sha256": self.key.digest}
        if self.key.speakers is not None:
            tags |= {"speakers": self.key.speakers.source, "speakers_sha256": self.key.speakers.digest}
        tags |= {"track": self.track.name, "subset": self.subset}
        self.ending = f".{self.track.name}" if is_one_of_several else ""
        run.set_tags({"corpus": corpus.name, **{f"{name}{self.ending}": tags[name] for name in tags}})
        self.dataset = run.log_dataset(self.key, f"{corpus.name}-{self.track.name}-key", "evaluation")

    def plan(self, *fields: str) -> EvaluationPlan:
        """Returns what is asked of the scores, broken down by some more fields than the track's own."""
        request = self.request
        return EvaluationPlan(
            track=self.track.name,
            corpus=self.corpus.name,
            subset=self.subset,
            metrics=self.track.metrics,
            breakdown=(*self.track.breakdown, *fields),
            asv=self.track.asv_scores(self.corpus.data_root, request.key, request.asv_scores, self.subset),
        )

    def join(self, source: ScoreSource, name: str = "") -> JoinedScores:
        """Reads scores, records which they are (by the name of their system, if given), and joins them."""
        table = read_scores(source.path, source.name, self.request.score_column)
        ending = f"{self.ending}.{name}" if name else self.ending
        self.run.set_tags({f"scores{ending}": source.name, f"scores_sha256{ending}": table.digest})
        return join_scores(table, self.key, self.request.allow_partial, self.subset)


def track_evaluation(
    run: TrackedRun, source: ScoreSource, corpus: Corpus, request: EvaluationRequest
) -> Evaluation:
    """Evaluates a score file and records the result on a run, on its checkpoint and on its registered version.

    Raises:
        FileNotFoundError: the key is missing.
        ValueError: scores and key do not cover the same trials, or one of them is malformed; or a calibration
            of other scores.
    """
    fitted = request.calibration
    made_by = {SCORE_RUN_TAG: source.run_id, "calibration": fitted.name if fitted else ""}
    run.set_tags({**source.tags, **{name: value for name, value in made_by.items() if value}})
    what = f"{request.track} {request.subset}".strip()
    place_under_origin(run, "evaluate", {"model": str(source.path), **source.tags}, what)
    basis = EvaluationBasis(run, corpus, request)
    joined = basis.join(source)
    if fitted:
        fitted.check(source.tags, joined.table.digest, basis.subset)
    if request.fit_calibration:
        name = title_text(describe(request.track, basis.subset, corpus.name), corpus.name)
        try:
            keep_calibration(run, joined.select_subset(basis.subset), request.fit_calibration, name)
        except ValueError as error:
            if not request.is_calibration_optional:
                raise
            logger.warning("no calibration: %s", error)
    evaluation = evaluate(
        joined,
        basis.plan("speaker"),
        system=source.system,
        calibration=load_calibration(fitted.path) if fitted else None,
    )
    _record(basis, source, evaluation, _explain_not_comparable(basis, source, joined))
    return evaluation


def track_comparison(
    run: TrackedRun, sources: Mapping[str, ScoreSource], corpus: Corpus, request: EvaluationRequest
) -> Comparison:
    """Compares score files and records the report on a run; errors as `track_evaluation`."""
    basis = EvaluationBasis(run, corpus, request)
    seeds = {name: source.seed_of for name, source in sources.items() if source.seed_of}
    recipes = ", ".join(group_by_recipe(sources, seeds))
    run.set_tags({"systems": recipes})
    run.suggest_name(f"compare {recipes} {request.track}")
    joined = {name: basis.join(source, name) for name, source in sources.items()}
    comparison = compare(joined, basis.plan(), seeds=seeds)
    for name, evaluation in zip(sources, comparison.evaluations, strict=True):
        log_results(run, evaluation, system=name)
    run.set_tags({"verdict": " ".join(comparison.verdicts)})
    run.log_contents(render_report(comparison), REPORT_DIRECTORY)
    return comparison


def _record(basis: EvaluationBasis, source: ScoreSource, evaluation: Evaluation, not_comparable: str) -> None:
    """Records an evaluation on its run, and what it says of its checkpoint there and on its versions."""
    run, model_id = basis.run, source.tags.get(MODEL_ID_TAG, "")
    told = {NOT_COMPARABLE_TAG: not_comparable, "warnings": " ".join(evaluation.warnings)}
    run.set_tags({name: text for name, text in told.items() if text})
    # The checkpoint itself gets figures that compare with those of others alone.
    log_results(run, evaluation, "" if not_comparable else model_id, basis.dataset)
    files = render_report(evaluation) if basis.request.is_illustrated else render_data(evaluation)
    run.log_contents(files, REPORT_DIRECTORY)
    # Of a run that made the scores too; where one fails before, its scores can still be found.
    run.set_tags({"kind": "evaluate"})
    if model_id:
        train_run_id = source.tags.get(TRAIN_RUN_TAG, "")
        lineage = read_lineage(run.client, model_id, train_run_id)
        with refusals_warn(f"The versions of {model_id} could not be told"):
            note_evaluations(run.client, lineage)
        link_checkpoint(run.client, lineage)
        renew_results(run.client, train_run_id)


def log_results(
    run: TrackedRun,
    evaluation: Evaluation,
    model_id: str = "",
    dataset: Dataset | None = None,
    system: str = "",
) -> None:
    """Writes the metrics of an evaluation to a run, by track and, of several, by system: `LA/eer_percent`.

    They are tied to a key and a checkpoint where these are given, unless that is one that one may only read.
    """
    ending = f".{system}" if system else ""
    metrics = {f"{evaluation.track}/{name}{ending}": value for name, value in evaluation.metrics().items()}
    if model_id:
        with refusals_warn(f"The figures are not written on the checkpoint {model_id}"):
            run.log_metrics(metrics, model_id=model_id, dataset=dataset)
            return
    run.log_metrics(metrics, dataset=dataset)


def _explain_not_comparable(basis: EvaluationBasis, source: ScoreSource, joined: JoinedScores) -> str:
    """Returns why the figures of a run do not compare with those of others; empty where they do."""
    hop = source.tags.get("window_hop", "0")
    reasons = {
        f"subset {basis.subset}": basis.subset != basis.track.default_subset,
        "some of the trials": not joined.coverage.is_complete,
        f"windows every {hop} samples": hop != "0",
        "calibrated": basis.request.calibration is not None,
        f"condition {source.condition}": bool(source.condition),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)
