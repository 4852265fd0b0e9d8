"""The run that made a checkpoint stands for it, in the list of runs and where runs are compared.

Scorings and evaluations of its checkpoints are its children, and the figures of the epoch that it chose stand on it,
beside its settings and losses.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import PurePath

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Run, RunTag
from mlflow.exceptions import MlflowException

from sls.data.corpora.corpus import PUBLISHED_CORPORA
from sls.tracking.registry.checkpoints import checkpoints_of
from sls.tracking.registry.lineage import Place, read_lineage
from sls.tracking.registry.stages import evaluated_place
from sls.tracking.run import TrackedRun, one_line
from sls.tracking.store import find_active_run
from sls.tracking.tags import CHOSEN_EPOCH_TAG, CORPUS_TAG, NOT_COMPARABLE_TAG, PARENT_TAG, TRAIN_RUN_TAG

EVALUATED_BY = "evaluated_by."
"""The beginning of the tags of such a run that name, by track, the evaluation whose figures it bears."""

logger = logging.getLogger(__name__)


def place_under_origin(run: TrackedRun, door: str, model_tags: Mapping[str, str], what: str) -> None:
    """Makes a run a child of the one that made its checkpoint, and names it, such as `score v1 LA`.

    One that has a parent already keeps it, as a run that a person has named keeps its name. Another epoch than the
    chosen one stands in the name.

    Args:
        run: The run.
        door: The first word of its name.
        model_tags: What it says of its model.
        what: The last word: a track, or a recording.
    """
    origin = find_active_run(run.client, model_tags.get(TRAIN_RUN_TAG, ""))
    title, epoch = model_tags.get("recipe") or PurePath(model_tags["model"]).stem, model_tags.get("epoch")
    if origin is not None:
        if PARENT_TAG not in run.client.get_run(run.run_id).data.tags:
            run.set_tags({PARENT_TAG: origin.info.run_id})
        if epoch and epoch != origin.data.tags.get(CHOSEN_EPOCH_TAG):
            title += f" epoch {epoch}"
    run.suggest_name(f"{door} {title} {what}")


def renew_results(client: MlflowClient, train_run_id: str, model_id: str = "") -> None:
    """Brings the figures on a run that made checkpoints up to date with the evaluations of the one that it chose.

    Of each track they are those of the newest evaluation that compares with others: in full, on the track's own
    subset. They are called `LA/eer_percent` and so on, with `LA.bf16` for scores in another precision than fp32, and
    with the corpus in front (`demo.LA`) where that is not the one of the training. Each renewal is a further step.
    Where another epoch was chosen that is not evaluated on a track, the track's figures become NaN: MLflow cannot
    take back what was logged.

    They do not decide how the caller's run ends: what the tracking store refuses, such as to write on the run of a
    colleague that one may only read, is a warning.

    Args:
        client: The tracking store.
        train_run_id: The run that trained or imported; where the store has none, or it chose no epoch, nothing
            happens.
        model_id: The checkpoint that was evaluated; where it is not the chosen one, nothing happens either.
    """
    try:
        _renew(client, train_run_id, model_id)
    except MlflowException as error:
        logger.warning("The figures on the run %s could not be renewed: %s", train_run_id, one_line(error))


def _renew(client: MlflowClient, train_run_id: str, model_id: str) -> None:
    origin = find_active_run(client, train_run_id)
    chosen = _find_chosen(client, origin) if origin else None
    if origin is None or chosen is None or (model_id and model_id != chosen.model_id):
        return
    lineage = read_lineage(client, chosen.model_id, train_run_id)
    evaluations = {
        _name_place(place, origin): run
        for place, run in lineage.newest_evaluations().items()
        if NOT_COMPARABLE_TAG not in run.data.tags
    }
    before = {
        tag.removeprefix(EVALUATED_BY): value
        for tag, value in origin.data.tags.items()
        if tag.startswith(EVALUATED_BY) and value
    }
    for name, run in evaluations.items():
        if before.get(name) != run.info.run_id:
            track = run.data.tags["track"]
            found = {
                metric.removeprefix(f"{track}/"): value
                for metric, value in run.data.metrics.items()
                if metric.startswith(f"{track}/")
            }
            _write(client, origin, name, found, run)
    for name in before.keys() - evaluations.keys():
        stale = [metric for metric in origin.data.metrics if metric.startswith(f"{name}/")]
        gone = {metric.removeprefix(f"{name}/"): math.nan for metric in stale if "by_epoch" not in metric}
        _write(client, origin, name, gone, None)


def _find_chosen(client: MlflowClient, origin: Run) -> LoggedModel | None:
    """Returns the checkpoint that a run stands for: of the epoch that it chose, or the one that it imported."""
    if CHOSEN_EPOCH_TAG in origin.data.tags:
        return checkpoints_of(client, origin).get(int(origin.data.tags[CHOSEN_EPOCH_TAG]))
    if origin.data.tags.get("kind") != "import_checkpoint" or not origin.outputs:
        return None
    return client.get_logged_model(origin.outputs.model_outputs[0].model_id)


def _name_place(place: Place, origin: Run) -> str:
    home = origin.data.tags.get(CORPUS_TAG, PUBLISHED_CORPORA)
    name = evaluated_place(PUBLISHED_CORPORA, place.track, place.precision)
    return name if place.corpus == home else f"{place.corpus}.{name}"


def _write(
    client: MlflowClient, origin: Run, name: str, figures: dict[str, float], evaluation: Run | None
) -> None:
    """Logs the figures of a track at a further step, and says what they were and are."""
    metric = f"{name}/eer_percent"
    history = client.get_metric_history(origin.info.run_id, metric) if metric in origin.data.metrics else ()
    step = max((point.step for point in history), default=-1) + 1
    now_ms = int(time.time() * 1000)
    metrics = [Metric(f"{name}/{key}", value, now_ms, step) for key, value in figures.items()]
    evaluated_by = evaluation.info.run_id if evaluation else ""
    client.log_batch(origin.info.run_id, metrics=metrics, tags=[RunTag(EVALUATED_BY + name, evaluated_by)])
    if not history:
        return
    before, after = origin.data.metrics[metric], figures["eer_percent"]
    told = "not evaluated" if math.isnan(after) else f"{after:.2f} %"
    logger.info("%s: EER on %s is now %s (before: %.2f %%)", origin.info.run_name, name, told, before)
