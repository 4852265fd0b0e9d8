"""The run that made a checkpoint stands for it, in the list of runs and where runs are compared.

Scorings and evaluations of its checkpoints are its children, and the figures of the epoch that it chose stand on it,
beside its settings and losses.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import PurePath

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Run, RunTag

from sls.data.corpora.corpus import PUBLISHED_CORPORA
from sls.engine.evaluation.transfer_results import METHODS
from sls.tracking.registry.checkpoints import named_checkpoints, tell_epoch
from sls.tracking.registry.lineage import Place, read_lineage, refusals_warn
from sls.tracking.run import TrackedRun
from sls.tracking.store import find_active_run, find_runs, tagged
from sls.tracking.tags import (
    BORNE_TAG,
    CHOSEN_EPOCH_TAG,
    CORPUS_TAG,
    DECISIONS_TAG,
    EPOCHS_TAG,
    EVALUATED_BY,
    NOT_COMPARABLE_TAG,
    PARENT_TAG,
    ROBUSTNESS_PREFIX,
    ROBUSTNESS_TAG,
    TRAIN_RUN_TAG,
    evaluated_place,
)

# Few, since MLflow compares runs by all metrics that they have; the rest stands on the evaluation.
BORNE_FIGURES = re.compile("(eer_percent|min_tdcf)(_clustered)?(_low|_high)?")
BORNE_OF_CHOICE = {
    DECISIONS_TAG: re.compile(rf"_by_({'|'.join(METHODS)})_of_"),
    ROBUSTNESS_TAG: re.compile(f"^{ROBUSTNESS_PREFIX}.+/.+/"),
}
"""What names figures that no evaluation renews, by the tag that says of which checkpoint they are."""
MAX_ROUNDS = 5

logger = logging.getLogger(__name__)


def place_under_origin(run: TrackedRun, door: str, model_tags: Mapping[str, str], what: str) -> None:
    """Makes a run a child of the one that made its checkpoint, and names it, such as `score v1 LA`.

    One that has a parent already keeps it, as a run that a person has named keeps its name. Another epoch than the
    chosen one stands in the name.
    """
    origin = find_active_run(run.client, model_tags.get(TRAIN_RUN_TAG, ""))
    title, epoch = model_tags.get("recipe") or PurePath(model_tags["model"]).stem, model_tags.get("epoch")
    if origin is not None:
        if PARENT_TAG not in run.client.get_run(run.run_id).data.tags:
            run.set_tags({PARENT_TAG: origin.info.run_id})
        if epoch and epoch != origin.data.tags.get(CHOSEN_EPOCH_TAG):
            title += f" {tell_epoch(epoch)}"
    run.suggest_name(f"{door} {title} {what}")


def renew_results(client: MlflowClient, train_run_id: str) -> None:
    """Brings the figures on a run that made checkpoints up to date with the evaluations of the one that it chose.

    Of each track they are those of the newest evaluation that compares with others, in full and on the track's own
    subset: EER and min t-DCF with their intervals, called `LA/eer_percent` and so on, with `LA.bf16` for scores in
    another precision than fp32, and with the corpus in front (`demo.LA`) where that is not the one of the training.
    A renewal is a newer value of the same step: what has several, MLflow draws and averages step by step. What the
    evaluation does not have, and all figures of a track on which the chosen epoch is not evaluated (any more), become
    NaN: MLflow cannot take back what was logged. All evaluations of a training are marked, so that it counts once.

    They do not decide how the caller's run ends: what the tracking store refuses, such as to write on the run of a
    colleague that one may only read, is a warning.

    Where there is no such run, or no choice, nothing happens.
    """
    with refusals_warn(f"The figures on the run {train_run_id} could not be renewed"):
        # Of two evaluations that end at once, either may have read what there is before the other wrote.
        for _ in range(MAX_ROUNDS):
            if not _renew(client, train_run_id):
                return


def bear_figures(
    client: MlflowClient,
    tag: str,
    model_id: str,
    train_run_id: str,
    name: Callable[[Run], Mapping[str, float]],
) -> None:
    """Writes figures of a checkpoint on the run that made it, if it is of the epoch that this chose.

    By the tag they are one sort of `BORNE_OF_CHOICE`, of which another choice of the epoch makes NaN; `name` returns
    them as that run calls them. What the store refuses is a warning.
    """
    with refusals_warn(f"The figures of the checkpoint {model_id} are not written on the run {train_run_id}"):
        origin = find_active_run(client, train_run_id)
        chosen = _find_chosen(client, origin) if origin else None
        if origin is not None and chosen is not None and chosen.model_id == model_id:
            _log_anew(client, origin, name(origin), RunTag(tag, model_id))


def _forget_former_choice(client: MlflowClient, origin: Run, model_id: str) -> None:
    """Makes NaN of the figures of `BORNE_OF_CHOICE` of another epoch than the one that is chosen now."""
    for tag, names in BORNE_OF_CHOICE.items():
        if origin.data.tags.get(tag, model_id) not in ("", model_id):
            now_ms = int(time.time() * 1000)
            metrics = [
                Metric(name, math.nan, now_ms, 0) for name in origin.data.metrics if names.search(name)
            ]
            client.log_batch(origin.info.run_id, metrics=metrics, tags=[RunTag(tag, "")])


def _renew(client: MlflowClient, train_run_id: str) -> bool:
    """Renews the figures once, and returns whether any of them were not up to date."""
    origin = find_active_run(client, train_run_id)
    chosen = _find_chosen(client, origin) if origin else None
    if origin is None or chosen is None:
        return False
    _forget_former_choice(client, origin, str(chosen.model_id))
    lineage = read_lineage(client, chosen.model_id, train_run_id)
    evaluations = {
        name_place(place, origin): run
        for place, run in lineage.newest_evaluations().items()
        if NOT_COMPARABLE_TAG not in run.data.tags
    }
    borne = {
        tag.removeprefix(EVALUATED_BY): value
        for tag, value in origin.data.tags.items()
        if tag.startswith(EVALUATED_BY) and value
    }
    newest = {name: run.info.run_id for name, run in evaluations.items()}
    changed = [name for name in borne.keys() | newest.keys() if borne.get(name) != newest.get(name)]
    for name in sorted(changed):
        _write(client, origin, name, evaluations.get(name))
    if origin.data.tags.get("kind") == "train":
        # Those of other epochs too, and former ones: in an average over trainings each counts once.
        of_training = tagged(kind="evaluate", **{TRAIN_RUN_TAG: train_run_id})
        unmarked = f"tags.{BORNE_TAG} IS NULL and tags.{EPOCHS_TAG} IS NULL"
        for run in list(find_runs(client, of_training, unmarked, experiments=[origin.info.experiment_id])):
            client.set_tag(run.info.run_id, BORNE_TAG, train_run_id)
    return bool(changed)


def _find_chosen(client: MlflowClient, origin: Run) -> LoggedModel | None:
    """Returns the checkpoint that a run stands for: of the epoch that it chose, or the one that it imported."""
    if CHOSEN_EPOCH_TAG in origin.data.tags:
        return named_checkpoints(client, origin).get(origin.data.tags[CHOSEN_EPOCH_TAG])
    if origin.data.tags.get("kind") != "import_checkpoint" or not origin.outputs:
        return None
    return client.get_logged_model(origin.outputs.model_outputs[0].model_id)


def name_place(place: Place, origin: Run) -> str:
    """Returns what a training run calls a place: with its corpus where that is not the one of the training."""
    home = origin.data.tags.get(CORPUS_TAG, PUBLISHED_CORPORA)
    name = place.track if place.corpus == home else f"{place.corpus}.{place.track}"
    return evaluated_place(PUBLISHED_CORPORA, name, place.precision)


def _write(client: MlflowClient, origin: Run, name: str, evaluation: Run | None) -> None:
    """Logs the figures of a track anew, and says what the EER was and is; with none, all are NaN."""
    figures = {
        metric: math.nan
        for metric in origin.data.metrics
        if metric.startswith(f"{name}/") and BORNE_FIGURES.fullmatch(metric.removeprefix(f"{name}/"))
    }
    if evaluation is not None:
        track = evaluation.data.tags["track"]
        for metric, value in evaluation.data.metrics.items():
            place, _, figure = metric.rpartition("/")
            if place == track and BORNE_FIGURES.fullmatch(figure):
                figures[f"{name}/{figure}"] = value
    _log_anew(
        client, origin, figures, RunTag(EVALUATED_BY + name, evaluation.info.run_id if evaluation else "")
    )
    eer = f"{name}/eer_percent"
    if eer in origin.data.metrics:
        before, now = (
            "none" if math.isnan(value) else f"{value:.2f} %"
            for value in (origin.data.metrics[eer], figures[eer])
        )
        logger.info("%s: EER on %s is now %s (before: %s)", origin.info.run_name, name, now, before)


def _log_anew(client: MlflowClient, origin: Run, figures: Mapping[str, float], tag: RunTag) -> None:
    """Logs figures as newer values of the same step, whatever the clock of the machine that wrote before."""
    known = sorted(figures.keys() & origin.data.metrics.keys())
    history = [point for metric in known for point in client.get_metric_history(origin.info.run_id, metric)]
    step = max((point.step for point in history), default=0)
    now_ms = max([int(time.time() * 1000), *(point.timestamp + 1 for point in history)])
    metrics = [Metric(metric, value, now_ms, step) for metric, value in figures.items()]
    client.log_batch(origin.info.run_id, metrics=metrics, tags=[tag])
