"""What a training run records: steps, epochs with their checkpoints, the choice, and the state to go on from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlflow.entities import Dataset

from sls.config import Config
from sls.engine.training.loop import Training
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.stopping import MONITORED_METRICS, choose_epoch
from sls.models.checkpoints import CheckpointInfo
from sls.tracking.registry.checkpoints import epoch_name, log_checkpoint
from sls.tracking.registry.epoch_choice import TrainedModel, choose_by
from sls.tracking.run import TrackedRun
from sls.tracking.signals import StopRequest
from sls.tracking.training.resuming import STATE_DIRECTORY, Past

logger = logging.getLogger(__name__)


@dataclass
class EpochRecorder:
    """Records epochs on a run; what a resumed run has recorded before is not recorded again."""

    run: TrackedRun
    config: Config
    corpus: str
    datasets: Mapping[str, Dataset | None]
    """By the first word of the metrics that are computed on them: train, val."""
    past: Past
    losses_by_epoch: dict[int, float] = field(default_factory=dict)
    """The monitored loss."""
    handles_by_epoch: dict[int, str] = field(default_factory=dict)
    """Checkpoints whose weights are kept."""

    def __post_init__(self) -> None:
        """Takes over what the run has recorded."""
        self.losses_by_epoch |= self.past.losses_by_epoch
        self.handles_by_epoch |= self.past.handles_by_epoch

    def record_step(self, step: StepResult) -> None:
        """Records the running loss, every so many steps."""
        name = "train/step_loss"
        is_due = (step.step + 1) % self.config.training.log_every_steps == 0
        if is_due and not self.past.has(name, step.step):
            self.run.log_metrics({name: step.loss}, step.step)

    def note_loss(self, result: EpochResult) -> None:
        """Takes in the loss by which the epoch is chosen."""
        # What was logged before a resume stands, whatever other hardware makes of the same epoch.
        loss = result.metrics[MONITORED_METRICS[self.config.training.monitor]]
        self.losses_by_epoch.setdefault(result.epoch, loss)

    def record(self, result: EpochResult) -> None:
        """Records an epoch: its checkpoint, and its metrics tied to checkpoint and data."""
        epoch = result.epoch
        if epoch not in self.handles_by_epoch:
            self.handles_by_epoch[epoch] = self._record_checkpoint(result)
        for prefix, dataset in self.datasets.items():
            metrics = {
                name: value
                for name, value in result.metrics.items()
                if name.startswith(f"{prefix}/") and not self.past.has(name, epoch)
            }
            if metrics:
                self.run.log_metrics(metrics, epoch, self.handles_by_epoch[epoch], dataset)

    def drop_weights(self, last_epoch: int) -> None:
        """Removes the weights of the epochs that the setting `keep` does not name."""
        keep = self.config.training.keep
        if keep == "all":
            return
        kept = {choose_epoch(self.losses_by_epoch)}
        if keep == "best_and_last":
            kept.add(last_epoch)
        for epoch in sorted(set(self.handles_by_epoch) - kept):
            self.run.delete_checkpoint(self.handles_by_epoch.pop(epoch))

    def choose(self) -> TrainedModel:
        """Records which epoch the recipe's rule chooses, and the rule."""
        metric = MONITORED_METRICS[self.config.training.monitor]
        trained = choose_by(self.run.run_id, metric, self.losses_by_epoch)
        self.run.set_tags(trained.tags())
        return trained

    @property
    def last_good_checkpoint(self) -> str:
        """The newest checkpoint that is kept, as the doors take it."""
        if not self.handles_by_epoch:
            return "none, this is the first epoch"
        return f"runs:/{self.run.run_id}/{epoch_name(max(self.handles_by_epoch))}"

    def _record_checkpoint(self, result: EpochResult) -> str:
        info = CheckpointInfo(
            encoder=result.model.encoder,
            num_samples=result.model.num_samples,
            sample_rate_hz=self.config.audio.sample_rate,
            epoch=result.epoch,
            recipe=self.config.training.recipe,
            run_id=self.run.run_id,
            config=self.config.to_flat(),
            provenance={"corpus": self.corpus},
        )
        return log_checkpoint(self.run, result.model, info, {"corpus": self.corpus})


class Session:
    """A training while it runs: what is recorded of its steps and epochs, and its state to resume from.

    Every process of a launch holds one. The runs of those after the first record nothing; their part in a state is
    that of their generators.
    """

    def __init__(
        self,
        training: Training,
        recorder: EpochRecorder,
        stop: StopRequest,
        on_step: Callable[[StepResult], None] | None,
    ) -> None:
        self.training, self.recorder, self.stop, self.on_step = training, recorder, stop, on_step
        self.accelerator = training.accelerator
        self.settings = training.config.training

    def after_step(self, step: StepResult) -> None:
        """Records a step; keeps the state where it is due, and where the process is asked to stop."""
        self.recorder.record_step(step)
        if self.on_step is not None:
            self.on_step(step)
        self.stop_if_asked()
        every = self.settings.save_every_steps
        if every and (step.step + 1) % every == 0 and (step.step + 1) % step.num_steps:
            self._keep_state(with_weights=True)

    def stop_if_asked(self) -> None:
        """Keeps the state where the process is asked to stop, and stops; in a validation, it begins anew then."""
        if not self._is_asked_to_stop():
            return
        self._keep_state(with_weights=True)
        if self.accelerator.is_main_process:
            run_id = self.recorder.run.run_id
            logger.info("Kept a state; go on with: mlflow run . -e train -P resume=%s", run_id)
        # A launcher ends the first process where another is gone, and the state would be lost.
        self.accelerator.wait_for_everyone()
        raise self.stop.error()

    def record(self, epoch: EpochResult) -> None:
        """Records an epoch, then the state that follows it, and only then drops what need not be kept."""
        self.recorder.note_loss(epoch)
        if self.accelerator.is_main_process:
            self.recorder.record(epoch)
        # The checkpoint of this epoch holds the weights, unless it is not kept, holds averaged ones, or was
        # recorded before a resume, perhaps by other hardware.
        is_averaged = epoch.model is not self.training.model
        is_older = epoch.epoch in self.recorder.past.handles_by_epoch
        self._keep_state(with_weights=is_averaged or is_older or self.settings.keep == "best")
        self.recorder.drop_weights(epoch.epoch)

    def _keep_state(self, *, with_weights: bool) -> None:
        run, progress = self.recorder.run, self.training.progress
        with run.staging() as directory:
            self.training.save(directory, with_weights=with_weights)
            run.keep_state(directory, STATE_DIRECTORY, progress.epoch, progress.batch)

    def _is_asked_to_stop(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self.stop.signal > 0
        # Launchers signal every process, but not all between the same two steps.
        asked = self.training.class_weights.new_tensor(float(self.stop.signal > 0))
        return self.accelerator.reduce(asked, "sum").item() > 0
