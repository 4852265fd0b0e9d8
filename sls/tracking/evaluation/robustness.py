"""Robustness as a tracked run: the trials of a track, clean and under conditions, each scored once, then judged."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run

from sls.config import SAMPLE_RATE_HZ
from sls.data.conditions.conditions import CLEAN, Condition
from sls.data.corpora.corpus import Corpus
from sls.data.loading.trial_lists import TrialList
from sls.engine.compute.ranks import Ranks
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.engine.robustness.judgement import judge_conditions
from sls.engine.robustness.results import RobustnessReport
from sls.engine.scoring.partial_scores import WHOLE, find_shards, partial_path, read_partial
from sls.engine.scoring.settings import REMEDY, check_same, settings_of
from sls.models.checkpoints import LoadedCheckpoint
from sls.reports.report import REPORT_DIRECTORY, render_report
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.evaluation_run import EvaluationBasis, EvaluationRequest
from sls.tracking.evaluation.pipeline import ProgressBar
from sls.tracking.evaluation.score_sources import ScoreSource
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.registry.lineage import Place
from sls.tracking.registry.parent_run import bear_figures, name_place, place_under_origin
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import fetch_finished, find_finished, is_finished, track_join
from sls.tracking.scoring.scoring_run import ScoringOptions, prepare_scoring, track_scoring
from sls.tracking.tags import MODEL_ID_TAG, PARENT_TAG, ROBUSTNESS_TAG, TRAIN_RUN_TAG, robustness_metric

FLIPS_FILE = "flips.csv"
OF_MACHINE = ("device", "linear_layers", "eval_batch_size")
"""What may be other where shards are judged than where they were scored."""
BORNE_MEASURE = "eer_diff_percent"
"""What a training run bears of each condition, with its intervals: few, as of decisions."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConditionScorer:
    """Scores the trials of a track under conditions, or takes what the store or the disk has of it."""

    run: TrackedRun
    """Whose children the scoring runs become."""
    model: ModelSource
    checkpoint: LoadedCheckpoint
    """That of the model, loaded once for all conditions."""
    trials: TrialList
    options: ScoringOptions
    output: Path | None
    """A directory for score files, TRACK.CONDITION.txt; None for places that depend on model and settings alone."""
    progress: ProgressBar

    def score(self, condition: Condition | None) -> ScoreSource | None:
        """Returns the scores under a condition, clean ones for None; nothing where a shard of them is scored.

        A finished scoring of the same model, trials, settings and condition is taken, a partial one goes on, and
        shards are joined.

        Raises:
            ValueError: recordings cannot be read or degraded, or shards are missing or not complete.
        """
        name, options = condition.name if condition else CLEAN, replace(self.options, condition=condition)
        shard, num_trials = options.shard, len(self.trials.trials)
        place = self.output / f"{self.trials.name}.{name}.txt" if self.output else None
        job, key = prepare_scoring(self.model, self.trials, options, place, Ranks(), self.checkpoint)
        path, run_id = job.output, ""
        if not options.force:
            find = find_finished if path.is_file() else partial(fetch_finished, output=path)
            found = find(self.run.client, self.run.experiment_id, key)
            if found and is_finished(path, job.made_with):
                run_id = found.info.run_id
                logger.info("%s: known from run %s", name, run_id)
        if not run_id:
            with (
                tracked_run("score", tags={PARENT_TAG: self.run.run_id}) as scoring,
                self.progress(f"{self.trials.name} {name}", -(-num_trials // shard.count)) as advance,
            ):
                if shard == WHOLE and not options.force and (shards := find_shards(path)):
                    self._check_shard(partial_path(path, shards[0]), job.made_with)
                    track_join(scoring, path)
                else:
                    track_scoring(
                        scoring, self.model, self.trials, options, path, advance, checkpoint=self.checkpoint
                    )
            run_id = scoring.run_id
            logger.info("%s: scored by run %s", name, run_id)
        return ScoreSource(path, run_id, self.model.tags()) if shard == WHOLE else None

    @staticmethod
    def _check_shard(path: Path, made_with: Mapping[str, Any]) -> None:
        """Raises ValueError where a shard is of something else; on which machine it was scored does not matter."""
        found = read_partial(path)
        if found is not None:
            of_machine = {name: found.made_with[name] for name in OF_MACHINE if name in found.made_with}
            check_same(found.made_with, {**made_with, **of_machine}, path, REMEDY)


def track_robustness(
    scorer: ConditionScorer, conditions: Sequence[Condition], corpus: Corpus, request: EvaluationRequest
) -> RobustnessReport | None:
    """Scores a track clean and under conditions, judges what these cost, and records it on a run.

    The differences of the EERs over the track's own subset stand on the run that made the checkpoint too. Of a shard
    there is no report.

    Raises:
        FileNotFoundError: the key is missing.
        ValueError: what `ConditionScorer.score` raises, a checkpoint of another sampling rate than 16 kHz, or clean
            scores that cannot be ranked.
    """
    run, model, options = scorer.run, scorer.model, scorer.options
    rate_hz = scorer.checkpoint.info.sample_rate_hz
    if rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f"model: found one of {rate_hz} Hz, expected {SAMPLE_RATE_HZ} Hz, which conditions take"
        )
    names = ", ".join(condition.name for condition in conditions)
    digest = {"checkpoint_sha256": scorer.checkpoint.digest}
    settings = settings_of(options.compute, options.scoring)
    run.set_tags({**model.tags(), **settings, **digest, "conditions": names, "shard": options.shard})
    place_under_origin(run, "robustness", model.tags(), request.track)
    basis = EvaluationBasis(run, corpus, request)
    clean = scorer.score(None)
    if clean is None:
        for condition in conditions:
            scorer.score(condition)
        return None
    joined = basis.join(clean, CLEAN).select_subset(basis.subset)
    # One by one, after the clean scores have been judged: what is wrong with these costs no other scoring.
    degraded = (
        (condition, basis.join(source, condition.name).select_subset(basis.subset))
        for condition in conditions
        if (source := scorer.score(condition))
    )
    plan = EvaluationPlan(request.track, corpus.name, basis.subset)
    report = judge_conditions(joined, degraded, plan, clean.system)
    _record(basis, report, model.tags(), options)
    return report


def _record(
    basis: EvaluationBasis, report: RobustnessReport, tags: dict[str, str], options: ScoringOptions
) -> None:
    run, track = basis.run, report.track
    run.set_tags({"verdict": " ".join(report.verdicts)})
    for found in report.results:
        figures = {**found.figures(), "num_flips": float(found.num_flips)}
        run.log_metrics(
            {robustness_metric(track, found.name, figure): value for figure, value in figures.items()}
        )
    flips = [{"condition": found.name, **asdict(flip)} for found in report.held for flip in found.flips]
    columns = ["condition", "trial", "label", "clean_score", "degraded_score"]
    table = pd.DataFrame(flips, columns=columns).to_csv(index=False, lineterminator="\n")
    run.log_contents({**render_report(report), FLIPS_FILE: table.encode()}, REPORT_DIRECTORY)
    if basis.subset == basis.track.default_subset and not options.scoring.window_hop:
        place = Place(basis.corpus.name, track, basis.subset, options.compute.precision)
        model_id, train_run_id = (tags.get(name, "") for name in (MODEL_ID_TAG, TRAIN_RUN_TAG))

        def name_borne(origin: Run) -> dict[str, float]:
            return {
                robustness_metric(name_place(place, origin), found.name, figure): value
                for found in report.results
                for figure, value in found.figures().items()
                if figure.startswith(BORNE_MEASURE)
            }

        bear_figures(run.client, ROBUSTNESS_TAG, model_id, train_run_id, name_borne)
