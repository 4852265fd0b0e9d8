"""All epochs of training runs on all tracks: the chart that shows what each recipe's choice cost."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pandas as pd
from mlflow.entities import Run

from sls.data.loading.trial_lists import TrialList, track_trials
from sls.engine.scoring.settings import settings_of
from sls.files import scratch_directory
from sls.reports.figure_style import to_png
from sls.reports.figures import epochs_figure
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.evaluation.pipeline import Pipeline
from sls.tracking.evaluation.trainings import TrainingRun
from sls.tracking.registry.checkpoints import ModelSource, epoch_name, has_weights, resolve_model
from sls.tracking.registry.lineage import refusals_warn
from sls.tracking.run import TrackedRun, one_line, run_link
from sls.tracking.scoring.score_file import HAS_SCORES, IS_CLEAN
from sls.tracking.store import FINISHED, NEWEST_FIRST, find_runs, tagged
from sls.tracking.tags import CHOSEN_EPOCH_TAG, EPOCHS_METRIC, NOTE_TAG

FIGURE_FILE, TABLE_FILE = "epochs.png", "epochs.tsv"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatedEpoch:
    """One epoch's checkpoint on one track."""

    recipe: str
    """As `TrainingRun.name`."""
    epoch: int
    track: str
    is_chosen: bool
    train_run_id: str
    model_id: str
    eer_percent: float | None = None
    """None where `note` says why there is none."""
    evaluate_run_id: str = ""
    is_new: bool = False
    """Evaluated by this call; otherwise found in the tracking store."""
    note: str = ""

    @property
    def title(self) -> str:
        """Such as `v1 epoch 3 on LA`."""
        return f"{self.recipe} epoch {self.epoch} on {self.track}"


def track_epochs(
    run: TrackedRun, pipeline: Pipeline, trainings: Sequence[TrainingRun], tracks: Sequence[str]
) -> list[EvaluatedEpoch]:
    """Evaluates every epoch of training runs on every track, and draws the EER by epoch.

    What the tracking store already holds is not computed again: an evaluation of the same checkpoint with the
    same key and subset, and a scoring run of the same checkpoint with the same list of trials, both with the same
    settings.

    The run gets chart, table and metrics `TRACK/eer_percent.RECIPE` (by epoch). The training runs of the same corpus
    get them too, as `TRACK/eer_percent_by_epoch`, unless windows of long recordings are scored.

    Returns:
        One entry for each epoch and track, in the order of runs, epochs and tracks.

    Raises:
        FileNotFoundError: a protocol, a key or a recording is missing.
        ValueError: one of them is malformed, or no epoch can be evaluated.
    """
    corpus = pipeline.corpus
    run.set_tags(
        {
            "corpus": corpus.name,
            "tracks": ", ".join(tracks),
            **settings_of(pipeline.compute, pipeline.scoring),
            "train_run_ids": ", ".join(training.run_id for training in trainings),
            NOTE_TAG: "  \n".join(f"Training: {run_link(item.run)}" for item in trainings),
        }
    )
    is_audio_needed = pipeline.compute.max_failures == 0
    trials = [track_trials(corpus, name, require_audio=is_audio_needed) for name in tracks]
    evaluator = EpochEvaluator(pipeline, trials)
    num_epochs = sum(len(training.checkpoints) for training in trainings)
    logger.info("evaluating %d epochs on %d tracks", num_epochs, len(tracks))
    evaluated: list[EvaluatedEpoch] = []
    for training in trainings:
        own = training.run.data.tags.get("corpus", "")
        is_charted = own == corpus.name and not pipeline.scoring.window_hop
        if own != corpus.name:
            told = "%s was trained on %s: its run gets no chart of the EERs on %s"
            logger.info(told, training.name, own or "?", corpus.name)
        for epoch in sorted(training.checkpoints):
            found = evaluator.evaluate(training, epoch)
            rates = {f"{item.track}/eer_percent.{item.recipe}": item.eer_percent for item in found}
            run.log_metrics({name: rate for name, rate in rates.items() if rate is not None}, epoch)
            if is_charted:
                with refusals_warn(f"The EERs by epoch are not written on the run {training.run_id}"):
                    _chart_beside_losses(pipeline, training, found)
            evaluated += found
    table = pd.DataFrame(evaluated)
    figure = to_png(epochs_figure(table, corpus.name))
    text = table.to_csv(sep="\t", index=False, lineterminator="\n")
    run.log_contents({FIGURE_FILE: figure, TABLE_FILE: text.encode()})
    return evaluated


class EpochEvaluator:
    """Evaluates checkpoints on tracks, unless the tracking store knows the answer."""

    def __init__(self, pipeline: Pipeline, trials: Sequence[TrialList]) -> None:
        self.pipeline, self.trials = pipeline, trials
        self.key_tags: dict[str, dict[str, str]] = {}
        for item in trials:
            track = pipeline.corpus.track(item.name)
            key = track.key(pipeline.corpus.data_root)
            self.key_tags[item.name] = {"subset": track.default_subset, "key_sha256": key.digest}

    def evaluate(self, training: TrainingRun, epoch: int) -> list[EvaluatedEpoch]:
        """Returns the EER of an epoch on every track, from the store or anew."""
        # A checkpoint is fetched once for all tracks, where one has to be scored, and goes when they are done.
        with scratch_directory() as directory:

            @cache
            def fetch() -> ModelSource:
                uri = f"runs:/{training.run_id}/{epoch_name(epoch)}"
                return resolve_model(self.pipeline.client, uri, directory)

            return [self._evaluate(training, epoch, trials, fetch) for trials in self.trials]

    def _evaluate(
        self, training: TrainingRun, epoch: int, trials: TrialList, fetch: Callable[[], ModelSource]
    ) -> EvaluatedEpoch:
        model_id = str(training.checkpoints[epoch].model_id)
        # A run that did not come to its end has chosen none.
        is_chosen = training.run.data.tags.get(CHOSEN_EPOCH_TAG) == str(epoch)
        found = EvaluatedEpoch(training.name, epoch, trials.name, is_chosen, training.run_id, model_id)
        evaluated = f"{tagged(kind='evaluate')} and {IS_CLEAN}"
        known = self._find_run(evaluated, model_id, trials, self.key_tags[trials.name])
        if known is not None:
            logger.info("%s: known from run %s", found.title, known.info.run_id)
            eer_percent = known.data.metrics[f"{trials.name}/eer_percent"]
            return replace(found, eer_percent=eer_percent, evaluate_run_id=known.info.run_id)
        # No figures: the chart shows none, and they take longer than all else. The scores are kept, and
        # `-e evaluate` draws them for any of these numbers.
        request = EvaluationRequest(trials.name, is_illustrated=False)
        name = f"{training.name} epoch {epoch}"
        of_trials = {"protocol_sha256": trials.protocol.digest if trials.protocol else ""}
        scored = self._find_run(HAS_SCORES, model_id, trials, of_trials)
        if scored is None and not has_weights(training.checkpoints[epoch]):
            return _leave_out(found, "its weights were not kept")
        score_run_id = scored.info.run_id if scored else self.pipeline.score(fetch(), trials, name)
        try:
            run_id, evaluation = self.pipeline.evaluate(score_run_id, request, name, in_place=scored is None)
        except ValueError as error:
            # An epoch that collapsed, whose scores are all alike, must not cost the chart of the others.
            if scored is None:
                self.pipeline.client.set_tag(score_run_id, "error", one_line(error))
            return replace(_leave_out(found, one_line(error)), is_new=True)
        eer_percent = evaluation.metrics()["eer_percent"]
        logger.info("%s: EER %.2f %%", found.title, eer_percent)
        return replace(found, eer_percent=eer_percent, evaluate_run_id=run_id, is_new=True)

    def _find_run(
        self, condition: str, model_id: str, trials: TrialList, data: Mapping[str, str]
    ) -> Run | None:
        """Returns a checkpoint's newest finished run over these trials, of this data and with these settings."""
        pipeline, settings = self.pipeline, settings_of(self.pipeline.compute, self.pipeline.scoring)
        wanted = {**{name: str(value) for name, value in settings.items()}, **data}
        own = tagged(model_id=model_id, track=trials.name, corpus=pipeline.corpus.name)
        for run in find_runs(pipeline.client, condition, own, FINISHED, order_by=NEWEST_FIRST):
            tags = run.data.tags
            # An evaluation of some of the trials, which allow_partial permits, or a calibrated one is another number.
            is_whole = run.data.metrics.get(f"{trials.name}/coverage_percent", 100) == 100
            if is_whole and "calibration" not in tags and wanted.items() <= tags.items():
                return run
        return None


def _leave_out(found: EvaluatedEpoch, reason: str) -> EvaluatedEpoch:
    logger.warning("%s: not evaluated: %s", found.title, reason)
    return replace(found, note=reason)


def _chart_beside_losses(
    pipeline: Pipeline, training: TrainingRun, evaluated: Sequence[EvaluatedEpoch]
) -> None:
    """Records EERs on the training run, so that the UI draws the recipes in one chart.

    A step whose newest value is another one, by a key since corrected, gets the new one too.
    """
    client, run_id = pipeline.client, training.run_id
    for item in evaluated:
        name = f"{item.track}{EPOCHS_METRIC}"
        if item.eer_percent is None:
            continue
        # Runs were read before this call began; only what they had then is asked for.
        history = client.get_metric_history(run_id, name) if name in training.run.data.metrics else ()
        known = {point.step: point.value for point in sorted(history, key=lambda point: int(point.timestamp))}
        if known.get(item.epoch) != item.eer_percent:
            # Whatever the clock of the machine that wrote before: MLflow takes the newest for the value of a step.
            now_ms = max([int(time.time() * 1000), *(point.timestamp + 1 for point in history)])
            client.log_metric(run_id, name, item.eer_percent, now_ms, item.epoch, model_id=item.model_id)
