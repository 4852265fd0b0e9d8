"""The choice of a training run's epoch, or of the mean of its best ones: by its recipe's rule, or anew."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from sls.engine.training.stopping import MONITORED_METRICS, choose_epochs
from sls.files import scratch_directory
from sls.tracking.registry.checkpoints import (
    average_name,
    checkpoints_of,
    epoch_name,
    has_weights,
    log_average,
    named_checkpoints,
    resolve_model,
    tell_epoch,
)
from sls.tracking.run import TrackedRun
from sls.tracking.store import get_run
from sls.tracking.tags import CHOSEN_BY_TAG, CHOSEN_EPOCH_TAG, CORPUS_TAG, EPOCHS_METRIC

# The figures of a chosen epoch, such as `DF/eer_percent`, have no epochs for their steps.
BY_EPOCH = re.compile(rf"(train|val)/(loss|eer_percent)|.+{EPOCHS_METRIC}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """The outcome of a training run."""

    run_id: str
    epochs: tuple[int, ...]
    """The epoch that the rule chose, or the best ones, whose mean it is."""
    rule: str
    """The rule, in words."""

    @property
    def epoch(self) -> int | str:
        """The epoch, or the name of the mean."""
        return self.epochs[0] if len(self.epochs) == 1 else average_name(self.epochs)

    @property
    def told(self) -> str:
        """What was chosen and why, in words."""
        return f"{tell_epoch(self.epoch)} ({self.rule})"

    @property
    def uri(self) -> str:
        """The checkpoint, as the score door takes it."""
        return f"runs:/{self.run_id}/{epoch_name(self.epoch)}"

    def record(self, run: TrackedRun) -> None:
        """Records the choice on the training run, with the figures of that epoch where it was evaluated before."""
        run.set_tags({CHOSEN_EPOCH_TAG: self.epoch, CHOSEN_BY_TAG: self.rule})
        run.renew_results()


def choose_by(
    run_id: str, metric: str, values_by_epoch: Mapping[int, float], average: int = 1
) -> TrainedModel:
    """Chooses the epoch with the lowest value of a metric, or the mean of so many with the lowest."""
    epochs = tuple(choose_epochs(values_by_epoch, average))
    lead = f"mean of the {len(epochs)} epochs of " if len(epochs) > 1 else ""
    return TrainedModel(run_id, epochs, f"{lead}lowest {metric}")


def choose_again(client: MlflowClient, run_id: str, metric: str = "", average: int = 1) -> TrainedModel:
    """Chooses the epoch of a training run anew, and records the choice and its rule on that run.

    The mean of several is made of their checkpoints, unless the run has it already.

    Args:
        client: The tracking store.
        run_id: The training run.
        metric: What it logged by epoch: a loss, `val/eer_percent`, or the EER of a track that a chart of epochs
            found, such as `DF/eer_percent_by_epoch`; empty for what its recipe monitors.
        average: How many of the best epochs to average; 1 for the best one.

    Raises:
        ValueError: there is no such run, it logged no such metric or fewer epochs, or the weights of an epoch that is
            chosen were not kept.
    """
    run = get_run(client, run_id, "run_id")
    run_id = run.info.run_id
    metric = metric or MONITORED_METRICS.get(run.data.params.get("cfg/monitor", ""), "")
    candidates = sorted(filter(BY_EPOCH.fullmatch, run.data.metrics))
    if metric not in candidates:
        raise ValueError(
            f"by: found {metric or 'no monitored loss'}, expected a loss or an EER that run {run_id} logged by "
            f"epoch: {', '.join(candidates) or 'none, it is no training run'}"
        )
    # A chart that is drawn anew may have found another value for an epoch: the newest counts.
    history = sorted(client.get_metric_history(run_id, metric), key=lambda point: int(point.timestamp))
    values = {point.step: point.value for point in history}
    if not 1 <= average <= len(values):
        raise ValueError(
            f"average: found {average}, expected 1 to {len(values)}, of as many epochs run {run_id} logged {metric}"
        )
    trained = choose_by(run_id, metric, values, average)
    _require_weights(trained, checkpoints_of(client, run))
    if average > 1 and trained.epoch not in named_checkpoints(client, run):
        _average(TrackedRun(client, run_id), trained.epochs)
    if metric.endswith(EPOCHS_METRIC):
        track = metric.removesuffix(EPOCHS_METRIC)
        logger.warning("the epoch is chosen by %s: EERs on %s are now too good to compare", track, track)
    trained.record(TrackedRun(client, run_id))
    return trained


def _require_weights(trained: TrainedModel, checkpoints: Mapping[int, LoggedModel]) -> None:
    kept = [epoch for epoch, model in checkpoints.items() if has_weights(model)]
    missing = [f"epoch {epoch}" for epoch in trained.epochs if epoch not in kept]
    if missing:
        raise ValueError(
            f"by: {trained.rule} needs {', '.join(missing)}, whose weights were not kept; run {trained.run_id} has "
            f"those of epochs {sorted(kept)} (keep=all keeps every one)"
        )


def _average(run: TrackedRun, epochs: Sequence[int]) -> None:
    """Records the mean of checkpoints, which are read one after the other."""
    from sls.engine.training.averaging import mean_weights
    from sls.models.checkpoints import load_checkpoint

    with scratch_directory() as directory:
        sources = [
            resolve_model(run.client, f"runs:/{run.run_id}/{epoch_name(epoch)}", directory / str(epoch))
            for epoch in sorted(epochs)
        ]
        mean = mean_weights(load_checkpoint(source.path).model.state_dict() for source in sources)
        newest = load_checkpoint(sources[-1].path)
        newest.model.load_state_dict(mean)
        tags = run.client.get_logged_model(sources[-1].model_id).tags
        kept = {CORPUS_TAG: tags[CORPUS_TAG]} if CORPUS_TAG in tags else {}
        log_average(run, newest.model, newest.info, epochs, kept)
