"""Training as a tracked run: what it was made with, its losses by epoch, and its checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from mlflow.entities import Dataset

from sls.config import Config
from sls.data.corpus import Corpus
from sls.data.dataset import TrialDataset
from sls.engine.device import resolve_device
from sls.engine.stopping import MONITORED_METRICS, choose_epoch
from sls.engine.training import EpochResult, StepResult, fit
from sls.models.checkpoints import CheckpointInfo, build_countermeasure
from sls.models.countermeasure import Countermeasure
from sls.tracking.checkpoints import CHOSEN_EPOCH_TAG, epoch_name, log_checkpoint
from sls.tracking.runs import TrackedRun

logger = logging.getLogger(__name__)

TRAIN_TRACK = "train"


@dataclass(frozen=True)
class TrainedModel:
    """The outcome of a training run."""

    run_id: str
    epoch: int
    """The epoch that the recipe's rule chose."""
    rule: str
    """The rule, in words."""

    @property
    def uri(self) -> str:
        """The checkpoint, as the score door takes it."""
        return f"runs:/{self.run_id}/{epoch_name(self.epoch)}"


def track_training(
    run: TrackedRun,
    config: Config,
    corpus: Corpus,
    on_step: Callable[[StepResult], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> TrainedModel:
    """Trains a countermeasure and records it on a run.

    Args:
        run: the run to record on.
        config: the experiment.
        corpus: where its trials lie.
        on_step: called after each step, for a progress bar.
        on_epoch: called after each epoch has been recorded.

    Raises:
        FileNotFoundError: a protocol, an audio file or the pre-trained XLS-R is missing.
        ValueError: something in these files or in the configuration is wrong.
    """
    training = config.training
    run.log_config(config)
    run.set_tags({"recipe": training.recipe, "corpus": corpus.name})
    device = resolve_device(config.compute.device)
    train, train_data = load_trials(run, corpus, config, TRAIN_TRACK, "training")
    validation, validation_data = _load_validation(run, corpus, config)
    model = build_countermeasure(
        config.model.xlsr_model, config.audio.audio_max_len, training.seed, config.compute.backend
    )
    recorder = _EpochRecorder(run, config, corpus, model, train_data, validation_data)
    for epoch in fit(model, train, validation, config, device, recorder.watch(on_step)):
        recorder.record(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
    return recorder.choose()


def load_trials(
    run: TrackedRun, corpus: Corpus, config: Config, name: str, context: str, subset: str | None = None
) -> tuple[TrialDataset, Dataset]:
    """Reads the trials of a track, and records its protocol as a dataset of the run."""
    track = corpus.track(name)
    trials = track.trials(corpus.data_root, subset, is_labelled=True)
    data = run.log_dataset(track.key(corpus.data_root), f"{corpus.name}-{name}", context)
    is_training = context == "training"
    augment = is_training or config.training.validation_rawboost
    audio = replace(config.audio, random_crop=config.audio.random_crop and is_training)
    logger.info("%s: %d trials of %s (%s)", context, len(trials), name, corpus.name)
    dataset = TrialDataset(trials, audio, config.rawboost if augment else None, config.training.seed)
    return dataset, data


def _load_validation(
    run: TrackedRun, corpus: Corpus, config: Config
) -> tuple[TrialDataset | None, Dataset | None]:
    if config.training.validation == "none":
        return None, None
    name, _, subset = config.training.validation.partition(":")
    return load_trials(run, corpus, config, name, "validation", subset or None)


class _EpochRecorder:
    """Records epochs: metrics tied to the epoch's checkpoint, and the choice at the end."""

    def __init__(
        self,
        run: TrackedRun,
        config: Config,
        corpus: Corpus,
        model: Countermeasure,
        train_data: Dataset,
        validation_data: Dataset | None,
    ) -> None:
        self.run, self.config, self.corpus, self.model = run, config, corpus, model
        self.datasets = {"train": train_data, "val": validation_data}
        self.monitored_by_epoch: dict[int, float] = {}

    def watch(self, on_step: Callable[[StepResult], None] | None) -> Callable[[StepResult], None]:
        """Returns a step callback that records the running loss every so many steps."""
        every = self.config.training.log_every_steps

        def watched(step: StepResult) -> None:
            if (step.step + 1) % every == 0:
                self.run.log_metrics({"train/step_loss": step.loss}, step.step)
            if on_step is not None:
                on_step(step)

        return watched

    def record(self, epoch: EpochResult) -> None:
        training = self.config.training
        self.monitored_by_epoch[epoch.epoch] = epoch.metrics[MONITORED_METRICS[training.monitor]]
        info = CheckpointInfo(
            encoder=self.model.encoder,
            num_samples=self.model.num_samples,
            sample_rate_hz=self.config.audio.sample_rate,
            epoch=epoch.epoch,
            recipe=training.recipe,
            run_id=self.run.run_id,
            config=self.config.to_flat(),
            provenance={"corpus": self.corpus.name},
        )
        model_id = log_checkpoint(self.run, self.model, info, {"corpus": self.corpus.name})
        for prefix, dataset in self.datasets.items():
            metrics = {name: value for name, value in epoch.metrics.items() if name.startswith(prefix + "/")}
            if metrics:
                self.run.log_metrics(metrics, epoch.epoch, model_id, dataset)

    def choose(self) -> TrainedModel:
        """Records which epoch the recipe's rule chooses, and the rule."""
        epoch = choose_epoch(self.monitored_by_epoch)
        rule = f"lowest {MONITORED_METRICS[self.config.training.monitor]}"
        self.run.set_tags({CHOSEN_EPOCH_TAG: epoch, "chosen_by": rule})
        return TrainedModel(self.run.run_id, epoch, rule)
