"""A study: trainings that differ by their seed, so that what a recipe is worth is told from luck.

Each is a training run at the top level, as any other; the tag `study` leads from all of them to the run that asked.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from mlflow import MlflowClient
from mlflow.entities import Run

from sls.config import Config
from sls.data.corpora.corpus import Corpus
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.stopping import MONITORED_METRICS, choose_epochs
from sls.metrics.paired import MIN_SEEDS
from sls.tracking.active_run import tracked_run
from sls.tracking.offline.journal_files import find_journals, read_opening
from sls.tracking.registry.checkpoints import epochs_of
from sls.tracking.registry.epoch_choice import TrainedModel
from sls.tracking.run import TrackedRun
from sls.tracking.sender import send_journal
from sls.tracking.store import find_runs, get_run, tagged
from sls.tracking.tags import CHOSEN_BY_TAG, CHOSEN_EPOCH_TAG, RECIPE_PARAM, SEED_PARAM, SEEDS_TAG, over_seeds
from sls.tracking.training.training_run import resumed_config, track_training
from sls.tracking.writer import RunTakenOver

TRAINING_METRICS = ("train/loss", "val/loss", "val/eer_percent")
"""What a summary tells of the epochs that trainings chose."""
STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "std": stdev,
    "best": min,
    "worst": max,
}
"""Of errors and losses over seeds; the deviation is that of a sample, n - 1."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedSeed:
    """A training of a study that has ended."""

    seed: str
    model: TrainedModel
    monitored: str
    """The metric that the recipe watches."""
    metrics: Mapping[str, float]
    """Of its epoch with the lowest monitored loss, which is the one that it chose, or the best that it averaged."""


@dataclass(frozen=True)
class Study:
    """Makes the trainings that a run asks for: those that are done are found, those that were stopped go on."""

    client: MlflowClient
    links: Mapping[str, str]
    """Tags of each training, by which it is found again from the run that asked for it."""
    is_resumed: bool
    """Whether that run was stopped; a new one asks the server for nothing."""

    def train(
        self,
        config: Config,
        corpus: Corpus,
        name: str,
        on_step: Callable[[StepResult], None] | None = None,
        on_epoch: Callable[[EpochResult], None] | None = None,
    ) -> str:
        """Trains by one seed, as `track_training` does, on a run of its own, whose id it returns.

        Raises ValueError where what was found of this seed has other settings.
        """
        former = self._find(config) if self.is_resumed else None
        if former is not None:
            # What is asked now is held against what it began with.
            resumed_config(former.info.run_id, config.to_flat())
            if former.info.status == "FINISHED":
                return str(former.info.run_id)
        resume = former.info.run_id if former is not None else ""
        with tracked_run("train", name, self.links, journal=True, resume=resume) as run:
            track_training(run, config, corpus, on_step, on_epoch, resume=resume)
        return run.run_id

    def _find(self, config: Config) -> Run | None:
        """Returns the training of a recipe and seed that has come furthest, with all that its journal held."""
        # Of a training the server may know nothing yet, or not what it is found by. To open the journal of the run
        # that asks would let go of the lock that this process has on it.
        own = {path for run_id in self.links.values() for path in find_journals(run_id)}
        for path in (path for path in find_journals() if path not in own):
            try:
                if read_opening(path).tracking_uri == self.client.tracking_uri:
                    send_journal(path)
            except (OSError, RunTakenOver, ValueError) as error:
                logger.debug("a journal is not sent: %s", error)
        recipe, seed = config.training.recipe, config.training.seed
        wanted = tagged(kind="train", **self.links)
        params = f"params.`{RECIPE_PARAM}` = '{recipe}' and params.`{SEED_PARAM}` = '{seed}'"
        found = find_runs(self.client, wanted, params)
        return max(found, key=lambda run: (run.info.status == "FINISHED", run.info.start_time), default=None)


def describe_shortage(num_seeds: int) -> str:
    """Returns what a study of several seeds is too small for; empty for one by which recipes can be told apart."""
    if not 1 < num_seeds < MIN_SEEDS:
        return ""
    return f"{num_seeds} seeds give a mean; a verdict between recipes needs {MIN_SEEDS}"


def read_seeds(client: MlflowClient, run_id: str) -> str:
    """Returns the seeds that a study was begun with, as they were typed; empty where a run is no study."""
    return str(get_run(client, run_id, "resume").data.tags.get(SEEDS_TAG, ""))


def read_seed(client: MlflowClient, run_id: str) -> TrainedSeed:
    """Reads what a training run that has ended chose, and what it measured there."""
    try:
        run = get_run(client, run_id, "run_id")
        chosen = epochs_of(run.data.tags[CHOSEN_EPOCH_TAG])
    except (ValueError, KeyError) as error:
        raise ConnectionError(
            f"the tracking server has not all of the training {run_id}: go on with resume when it is back"
        ) from error
    monitored = MONITORED_METRICS[run.data.params["cfg/monitor"]]
    history = {
        name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        for name in TRAINING_METRICS
        if name in run.data.metrics
    }
    best = choose_epochs(history[monitored])[0]
    return TrainedSeed(
        run.data.params[SEED_PARAM],
        TrainedModel(run.info.run_id, chosen, run.data.tags[CHOSEN_BY_TAG]),
        monitored,
        {name: values[best] for name, values in history.items() if best in values},
    )


def choose_seed(trained: Sequence[TrainedSeed]) -> TrainedSeed:
    """Returns the training with the lowest monitored loss, the first of equals: no evaluation has a say in it."""
    return min(trained, key=lambda item: item.metrics[item.monitored])


def log_summary(run: TrackedRun, recipe: str, metrics: Sequence[Mapping[str, float]]) -> None:
    """Records statistics over two seeds of a recipe or more, of errors and losses, on the run of their study."""
    run.log_metrics(
        {
            over_seeds(name, statistic, recipe): measure([item[name] for item in metrics])
            for name in metrics[0]
            if all(name in item for item in metrics)
            for statistic, measure in STATISTICS.items()
        }
    )
