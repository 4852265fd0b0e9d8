"""Robustness as a tracked run: the trials of a track, clean and under conditions, each scored once, then judged."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from sls.data.conditions.conditions import CLEAN, Condition
from sls.data.corpora.corpus import Corpus
from sls.data.loading.trial_lists import TrialList
from sls.engine.compute.ranks import Ranks
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.engine.robustness.judgement import judge_conditions
from sls.engine.robustness.results import RobustnessReport
from sls.engine.scoring.loop import ScoringJob, score_shard
from sls.engine.scoring.partial_scores import WHOLE, find_shards
from sls.engine.scoring.settings import settings_of
from sls.models.checkpoints import LoadedCheckpoint
from sls.quotation import count_of
from sls.reports.report import REPORT_DIRECTORY, render_report
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.evaluation_run import EvaluationBasis, EvaluationRequest
from sls.tracking.evaluation.pipeline import ProgressBar
from sls.tracking.evaluation.score_sources import ScoreSource
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.registry.lineage import Place
from sls.tracking.registry.parent_run import bear_robustness, place_under_origin
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import fetch_finished, find_finished, is_finished, track_join
from sls.tracking.scoring.scoring_run import ScoringOptions, prepare_scoring, track_scoring
from sls.tracking.tags import MODEL_ID_TAG, PARENT_TAG, TRAIN_RUN_TAG, robustness_metric

FLIPS_FILE = "flips.csv"
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
        name = condition.name if condition else CLEAN
        options = replace(self.options, condition=condition)
        place = self.output / f"{self.trials.name}.{name}.txt" if self.output else None
        job, key = prepare_scoring(self.model, self.trials, options, place, Ranks(), self.checkpoint)
        run_id = "" if options.force else self._find(job, key)
        if options.shard != WHOLE:
            if run_id or (is_finished(job.output, job.made_with) and not options.force):
                logger.info("%s: scored already", name)
            else:
                self._score_shard(job, name)
            return None
        if run_id:
            logger.info("%s: known from run %s", name, run_id)
        else:
            run_id = self._score(job, options, name)
        return ScoreSource(job.output, run_id, self.model.tags())

    def _find(self, job: ScoringJob, key: str) -> str:
        """Returns the finished run of these very scores, once they are on the disk; empty where there is none."""
        client, experiment = self.run.client, self.run.experiment_id
        if job.output.is_file():
            found = find_finished(client, experiment, key)
        else:
            found = fetch_finished(client, experiment, key, job.output)
        return str(found.info.run_id) if found and is_finished(job.output, job.made_with) else ""

    def _score(self, job: ScoringJob, options: ScoringOptions, name: str) -> str:
        """Scores all trials, or joins their shards, and returns the id of the scoring run."""
        with tracked_run("score", tags={PARENT_TAG: self.run.run_id}) as scoring:
            if find_shards(job.output) and not options.force:
                track_join(scoring, job.output)
            else:
                with self.progress(f"{self.trials.name} {name}", len(self.trials.trials)) as advance:
                    track_scoring(
                        scoring,
                        self.model,
                        self.trials,
                        options,
                        job.output,
                        advance,
                        checkpoint=self.checkpoint,
                    )
        return scoring.run_id

    def _score_shard(self, job: ScoringJob, name: str) -> None:
        """Scores a shard into its partial file, which no run keeps."""
        shard = self.options.shard
        total = len(shard.trials(len(self.trials.trials), job.batches.batch_size))
        with self.progress(f"{self.trials.name} {name} {shard}", total) as advance:
            summary = score_shard(job, shard, advance, is_anew=self.options.force)
        if summary.failures:
            failed = count_of(len(summary.failures), "recording")
            raise ValueError(f"{name}: {failed} cannot be scored: {summary.failures[0].message}")


def track_robustness(
    scorer: ConditionScorer, conditions: Sequence[Condition], corpus: Corpus, request: EvaluationRequest
) -> RobustnessReport | None:
    """Scores a track clean and under conditions, judges what these cost, and records it on a run.

    The differences of the EERs over the track's own subset stand on the run that made the checkpoint too.

    Returns:
        The report; None of a shard, which is scored alone.

    Raises:
        FileNotFoundError: the key is missing.
        ValueError: what `ConditionScorer.score` raises, or clean scores that cannot be ranked.
    """
    run, model, options = scorer.run, scorer.model, scorer.options
    run.set_tags(
        {
            **model.tags(),
            **settings_of(options.compute, options.scoring),
            "checkpoint_sha256": scorer.checkpoint.digest,
            "conditions": ", ".join(condition.name for condition in conditions),
        }
    )
    if options.shard != WHOLE:
        run.set_tags({"shard": options.shard})
    place_under_origin(run, "robustness", model.tags(), request.track)
    basis = EvaluationBasis(run, corpus, request)
    clean = scorer.score(None)
    sources = [scorer.score(condition) for condition in conditions]
    if clean is None:
        return None
    report = judge_conditions(
        basis.join(clean, CLEAN).select_subset(basis.subset),
        (
            (condition, basis.join(source, condition.name).select_subset(basis.subset))
            for condition, source in zip(conditions, sources, strict=True)
            if source is not None
        ),
        EvaluationPlan(request.track, corpus.name, basis.subset),
        clean.system,
    )
    _record(basis, report, model.tags(), options)
    return report


def _record(
    basis: EvaluationBasis, report: RobustnessReport, tags: dict[str, str], options: ScoringOptions
) -> None:
    run, track = basis.run, report.track
    run.set_tags({"verdict": " ".join(report.verdicts)})
    figures = report.metrics()
    for name in figures:
        run.log_metrics(
            {robustness_metric(track, f"{name}/{figure}"): value for figure, value in figures[name].items()}
        )
    flips = [{"condition": found.name, **asdict(flip)} for found in report.held for flip in found.flips]
    columns = ["condition", "trial", "label", "clean_score", "degraded_score"]
    table = pd.DataFrame(flips, columns=columns).to_csv(index=False, lineterminator="\n")
    run.log_contents({**render_report(report), FLIPS_FILE: table.encode()}, REPORT_DIRECTORY)
    if basis.subset == basis.track.default_subset and not options.scoring.window_hop:
        place = Place(basis.corpus.name, track, basis.subset, options.compute.precision)
        borne = {
            f"{name}/{figure}": value
            for name, found in figures.items()
            for figure, value in found.items()
            if figure.startswith(BORNE_MEASURE)
        }
        bear_robustness(run.client, tags.get(MODEL_ID_TAG, ""), tags.get(TRAIN_RUN_TAG, ""), place, borne)
