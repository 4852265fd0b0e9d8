"""What a training run records of its epochs: metrics tied to checkpoints, what is kept of them, and the choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow.entities import Dataset

from sls.config import Config
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.stopping import MONITORED_METRICS, choose_epoch
from sls.models.checkpoints import CheckpointInfo
from sls.tracking.registry.checkpoints import epoch_name, log_checkpoint
from sls.tracking.registry.epoch_choice import TrainedModel, choose_by
from sls.tracking.run import TrackedRun
from sls.tracking.training.resuming import Past


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
