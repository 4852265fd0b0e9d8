"""What a training run records: steps, epochs with their checkpoints, the choice, and the state to go on from.

A run that goes on has recorded some of it before, which is read first and not recorded again.
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset
from torch import Tensor

from sls.engine.training.averaging import copy_weights, mean_weights
from sls.engine.training.loop import Training
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.state import read_state
from sls.engine.training.stopping import MONITORED_METRICS, choose_epochs
from sls.files import scratch_directory
from sls.models.checkpoints import CheckpointInfo, load_checkpoint
from sls.models.countermeasure import Countermeasure
from sls.tracking.artifacts import download_state
from sls.tracking.database import require_place
from sls.tracking.registry.checkpoints import (
    checkpoints_of,
    epoch_name,
    has_weights,
    log_average,
    log_checkpoint,
    named_checkpoints,
    resolve_model,
)
from sls.tracking.registry.epoch_choice import TrainedModel, choose_by
from sls.tracking.run import TrackedRun
from sls.tracking.signals import StopRequest
from sls.tracking.store import find_run

STATE_DIRECTORY = "state"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Past:
    """What a run has recorded; nothing, for a new one."""

    steps_by_metric: Mapping[str, frozenset[int]] = field(default_factory=dict)
    handles_by_epoch: Mapping[int, str] = field(default_factory=dict)
    """Its checkpoints whose weights are there."""
    losses_by_epoch: Mapping[int, float] = field(default_factory=dict)
    """The monitored loss."""
    state: Path | None = None
    """Directory of the state to go on from; None to begin anew."""
    checkpoint: Path | None = None
    """The weights that the state goes with, where it does not hold them itself."""
    averages: Collection[str] = ()
    """Names of its means of epochs."""

    def has(self, metric: str, step: int) -> bool:
        """Whether a point was recorded."""
        return step in self.steps_by_metric.get(metric, ())


def read_past(client: MlflowClient, run_id: str, monitored: str, directory: Path) -> Past:
    """Reads what a run has recorded, and fetches its state; raises ValueError where that is not whole."""
    run = find_run(client, run_id)
    run_id = run.info.run_id
    history = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    handles = {
        epoch: model.model_id for epoch, model in checkpoints_of(client, run).items() if has_weights(model)
    }
    averages = [name for name in named_checkpoints(client, run) if not name.isdecimal()]
    losses = {point.step: point.value for point in history.get(monitored, ())}
    steps = {name: frozenset(point.step for point in points) for name, points in history.items()}
    require_place(run.info.artifact_uri)
    if not any(item.path.startswith(STATE_DIRECTORY) for item in client.list_artifacts(run_id)):
        # Stopped before there was a state: it begins anew, and repeats what it has recorded.
        return Past(steps, handles, losses, averages=averages)
    download_state(client, run_id, STATE_DIRECTORY, directory)
    state, checkpoint = read_state(directory), None
    if "weights" not in state:
        uri = f"runs:/{run_id}/{epoch_name(state['progress']['epoch'] - 1)}"
        checkpoint = resolve_model(client, uri, directory / "checkpoint").path
    return Past(steps, handles, losses, directory, checkpoint, averages)


class TrainingRecorder:
    """Records a training on a run while it goes on; what a resumed run has recorded before is not recorded again.

    Every process of a launch holds one. The runs of those after the first record nothing; their part in a state is
    that of their generators.
    """

    def __init__(
        self,
        run: TrackedRun,
        training: Training,
        corpus: str,
        datasets: Mapping[str, Dataset | None],
        past: Past,
    ) -> None:
        """Takes over what the run has recorded; datasets by the first word of their metrics: train, val."""
        self.run, self.training, self.corpus, self.datasets, self.past = run, training, corpus, datasets, past
        self.stop = StopRequest()
        """Whether the process is asked to stop."""
        self.on_step: Callable[[StepResult], None] | None = None
        """Called after each step, for a progress bar."""
        self.settings = training.config.training
        self.metric = MONITORED_METRICS[self.settings.monitor]
        self.losses_by_epoch = dict(past.losses_by_epoch)
        """The monitored loss."""
        self.handles_by_epoch = dict(past.handles_by_epoch)
        """Checkpoints whose weights are kept."""
        self.best_weights: dict[int, dict[str, Tensor]] = {}
        """Of the best epochs of this process, where they are to be averaged: the server may be away then."""

    def after_step(self, step: StepResult) -> None:
        """Records the running loss, every so many steps; keeps the state where it is due, and where asked to stop."""
        name, number = "train/step_loss", step.step + 1
        if number % self.settings.log_every_steps == 0 and not self.past.has(name, step.step):
            self.run.log_metrics({name: step.loss}, step.step)
        if self.on_step is not None:
            self.on_step(step)
        self.stop_if_asked()
        every = self.settings.save_every_steps
        if every and number % every == 0 and number % step.num_steps:
            self._keep_state(with_weights=True)

    def stop_if_asked(self) -> None:
        """Keeps the state where the process is asked to stop, and stops; in a validation, it begins anew then."""
        if not self._is_asked_to_stop():
            return
        self._keep_state(with_weights=True)
        if self.training.accelerator.is_main_process:
            logger.info(
                "Kept a state; this training goes on with: mlflow run . -e train -P resume=%s",
                self.run.run_id,
            )
        # A launcher ends the first process where another is gone, and the state would be lost.
        self.training.accelerator.wait_for_everyone()
        raise self.stop.error()

    def record(self, result: EpochResult) -> None:
        """Records an epoch, then the state that follows it, and only then drops what need not be kept."""
        # What was logged before a resume stands, whatever other hardware makes of the same epoch.
        self.losses_by_epoch.setdefault(result.epoch, result.metrics[self.metric])
        if self.training.accelerator.is_main_process:
            self._record_metrics(result)
            self._keep_for_average(result)
        # The checkpoint of this epoch holds the weights, unless it is not kept, holds averaged ones, or was
        # recorded before a resume, perhaps by other hardware.
        is_averaged = result.model is not self.training.model
        is_older = result.epoch in self.past.handles_by_epoch
        self._keep_state(with_weights=is_averaged or is_older or self.settings.keep == "best")
        self._drop_weights(result.epoch)

    def choose(self) -> TrainedModel:
        """Records which epoch the recipe's rule chooses."""
        trained = choose_by(self.run.run_id, self.metric, self.losses_by_epoch, self.settings.average)
        is_averaged = len(trained.epochs) > 1 and trained.epoch not in self.past.averages
        if is_averaged and self.training.accelerator.is_main_process:
            self._record_average(sorted(trained.epochs))
        trained.record(self.run)
        return trained

    @property
    def last_good_checkpoint(self) -> str:
        """The newest checkpoint that is kept, as the doors take it."""
        if not self.handles_by_epoch:
            return "none, this is the first epoch"
        return f"runs:/{self.run.run_id}/{epoch_name(max(self.handles_by_epoch))}"

    def _record_metrics(self, result: EpochResult) -> None:
        """Records the checkpoint of an epoch, and its metrics tied to checkpoint and data."""
        epoch = result.epoch
        if epoch not in self.handles_by_epoch:
            info = self._describe(result.model, epoch)
            handle = log_checkpoint(self.run, result.model, info, {"corpus": self.corpus})
            self.handles_by_epoch[epoch] = handle
        for prefix, dataset in self.datasets.items():
            metrics = {
                name: value
                for name, value in result.metrics.items()
                if name.startswith(f"{prefix}/") and not self.past.has(name, epoch)
            }
            if metrics:
                self.run.log_metrics(metrics, epoch, self.handles_by_epoch[epoch], dataset)

    def _describe(self, model: Countermeasure, epoch: int | None) -> CheckpointInfo:
        config = self.training.config
        return CheckpointInfo(
            encoder=model.encoder,
            num_samples=model.num_samples,
            sample_rate_hz=config.audio.sample_rate,
            epoch=epoch,
            recipe=self.settings.recipe,
            run_id=self.run.run_id,
            config=config.to_flat(),
            provenance={"corpus": self.corpus},
        )

    def _keep_for_average(self, result: EpochResult) -> None:
        """Keeps the weights of an epoch until another one takes its place among the best."""
        if self.settings.average == 1:
            return
        # A checkpoint that was recorded before a resume is what counts, perhaps by other hardware.
        if result.epoch not in self.past.handles_by_epoch:
            self.best_weights[result.epoch] = copy_weights(result.model)
        best = choose_epochs(self.losses_by_epoch, self.settings.average)
        self.best_weights = {epoch: held for epoch, held in self.best_weights.items() if epoch in best}

    def _record_average(self, epochs: Sequence[int]) -> None:
        """Records the mean of epochs, those of before a resume by their checkpoints."""
        model = copy.deepcopy(self.training.average.result).cpu()
        model.load_state_dict(mean_weights(map(self._weights_of, epochs)))
        log_average(self.run, model, self._describe(model, None), epochs, {"corpus": self.corpus})

    def _weights_of(self, epoch: int) -> dict[str, Tensor]:
        if epoch in self.best_weights:
            return self.best_weights[epoch]
        backend = self.training.config.compute.backend
        with scratch_directory() as directory:
            source = resolve_model(self.run.client, f"runs:/{self.run.run_id}/{epoch_name(epoch)}", directory)
            return load_checkpoint(source.path, backend=backend).model.state_dict()

    def _drop_weights(self, last_epoch: int) -> None:
        """Removes the weights of the epochs that the setting `keep` does not name."""
        if self.settings.keep == "all":
            return
        kept = set(choose_epochs(self.losses_by_epoch, self.settings.average))
        if self.settings.keep == "best_and_last":
            kept.add(last_epoch)
        for epoch in sorted(set(self.handles_by_epoch) - kept):
            self.run.delete_checkpoint(self.handles_by_epoch.pop(epoch))

    def _keep_state(self, *, with_weights: bool) -> None:
        progress = self.training.progress
        with self.run.staging() as directory:
            self.training.save(directory, with_weights=with_weights)
            self.run.keep_state(directory, STATE_DIRECTORY, progress.epoch, progress.batch)

    def _is_asked_to_stop(self) -> bool:
        accelerator, is_asked = self.training.accelerator, self.stop.signal > 0
        if accelerator.num_processes == 1:
            return is_asked
        # Launchers signal every process, but not all between the same two steps.
        asked = self.training.gradient.class_weights.new_tensor(float(is_asked))
        return accelerator.reduce(asked, "sum").item() > 0
