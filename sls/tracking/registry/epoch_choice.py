"""The choice of a training run's epoch: by its recipe's rule, or anew from what it logged."""

import logging
import re
from dataclasses import dataclass

from mlflow import MlflowClient

from sls.engine.training.stopping import MONITORED_METRICS, choose_epoch
from sls.tracking.registry.checkpoints import checkpoints_of, epoch_name, has_weights
from sls.tracking.run import TrackedRun
from sls.tracking.store import get_run
from sls.tracking.tags import CHOSEN_BY_TAG, CHOSEN_EPOCH_TAG, EPOCHS_METRIC

# The figures of a chosen epoch, such as `DF/eer_percent`, have no epochs for their steps.
BY_EPOCH = re.compile(rf"(train|val)/(loss|eer_percent)|.+{EPOCHS_METRIC}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """The outcome of a training run."""

    run_id: str
    epoch: int
    """The epoch that the rule chose."""
    rule: str
    """The rule, in words."""

    @property
    def uri(self) -> str:
        """The checkpoint, as the score door takes it."""
        return f"runs:/{self.run_id}/{epoch_name(self.epoch)}"

    def record(self, run: TrackedRun) -> None:
        """Records the choice on the training run, with the figures of that epoch where it was evaluated before."""
        run.set_tags({CHOSEN_EPOCH_TAG: self.epoch, CHOSEN_BY_TAG: self.rule})
        run.renew_results()


def choose_by(run_id: str, metric: str, values_by_epoch: dict[int, float]) -> TrainedModel:
    """Chooses the epoch with the lowest value of a metric."""
    return TrainedModel(run_id, choose_epoch(values_by_epoch), f"lowest {metric}")


def choose_again(client: MlflowClient, run_id: str, metric: str = "") -> TrainedModel:
    """Chooses the epoch of a training run anew, and records the choice and its rule on that run.

    Args:
        client: The tracking store.
        run_id: The training run.
        metric: What it logged by epoch: a loss, `val/eer_percent`, or the EER of a track that a chart of epochs
            found, such as `DF/eer_percent_by_epoch`; empty for what its recipe monitors.

    Raises:
        ValueError: there is no such run, it logged no such metric, or the weights of that epoch were not kept.
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
    trained = choose_by(run_id, metric, {point.step: point.value for point in history})
    kept = [epoch for epoch, model in checkpoints_of(client, run).items() if has_weights(model)]
    if trained.epoch not in kept:
        raise ValueError(
            f"by: {trained.rule} is at epoch {trained.epoch}, whose weights were not kept; run {run_id} has "
            f"those of epochs {sorted(kept)} (keep=all keeps every one)"
        )
    if metric.endswith(EPOCHS_METRIC):
        track = metric.removesuffix(EPOCHS_METRIC)
        logger.warning("the epoch is chosen by %s: EERs on %s are now too good to compare", track, track)
    trained.record(TrackedRun(client, run_id))
    return trained
