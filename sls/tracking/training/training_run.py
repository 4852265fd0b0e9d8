"""Training as a tracked run: what it was made with, its losses by epoch, and its checkpoints."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlflow.entities import Dataset

from sls.config import Config
from sls.config_file import build_config, read_config_values
from sls.data.corpora.corpus import Corpus
from sls.data.loading.dataset import TrialDataset
from sls.engine.compute.training_processes import join_processes, lost_process_raises, open_accelerator
from sls.engine.training.loop import Training
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.stopping import MONITORED_METRICS
from sls.files import scratch_directory
from sls.models.checkpoints import build_countermeasure, load_checkpoint
from sls.models.countermeasure import Countermeasure
from sls.tracking.artifacts import download, open_artifacts
from sls.tracking.registry.epoch_choice import TrainedModel
from sls.tracking.run import TrackedRun
from sls.tracking.signals import stop_on_request
from sls.tracking.store import connect, get_run
from sls.tracking.training.recorder import STATE_DIRECTORY, Past, TrainingRecorder, read_past

logger = logging.getLogger(__name__)

TRAIN_TRACK = "train"
CONFIG_FILE = "config.yaml"
CHANGEABLE = ("data_root", "tracks", "device", "num_workers", "eval_batch_size", "max_failures")
"""What a resumed training may have otherwise: where its data lie, and where the work is done. As other hardware may,
another `eval_batch_size` moves the last digits of the validation loss, and nothing else."""
MAY_DIFFER = {*CHANGEABLE, "xlsr_model"} - {"eval_batch_size"}
"""What each machine of a launch may have otherwise: where files lie there, and how it works. The batches of a
validation are divided by `eval_batch_size`."""


def track_training(
    run: TrackedRun,
    config: Config,
    corpus: Corpus,
    on_step: Callable[[StepResult], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    *,
    resume: str = "",
) -> TrainedModel:
    """Trains a countermeasure and records it on a run.

    Every process of a launch calls this; what those after the first record goes nowhere.

    `on_step` and `on_epoch` are called after each of them. A run that goes on is named by `resume`.

    Raises:
        FileNotFoundError: a protocol, an audio file or the pre-trained XLS-R is missing.
        ValueError: something in these files or in the configuration is wrong, or the run cannot be resumed.
        FloatingPointError: the loss is not finite; names step, trials and the last good checkpoint.
        ConnectionError: another process of the launch is gone.
    """
    recipe, num_epochs = config.training.recipe, config.training.num_epochs
    logger.info("training %s for at most %d epochs, run %s", recipe, num_epochs, run.run_id)
    run.suggest_name(f"train {recipe}")
    if not resume:
        run.log_config(config)
        run.set_tags({"recipe": recipe, "corpus": corpus.name})
    with lost_process_raises(f"resume={run.run_id} goes on from the last state, in as many processes"):
        training, recorder = _prepare(run, config, corpus, resume)
        recorder.on_step = on_step
        with stop_on_request() as recorder.stop:
            try:
                for epoch in training.epochs(recorder.after_step, recorder.stop_if_asked):
                    recorder.record(epoch)
                    if on_epoch is not None:
                        on_epoch(epoch)
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"{error}; last good checkpoint: {recorder.last_good_checkpoint}"
                ) from error
    trained = recorder.choose()
    run.delete_states(STATE_DIRECTORY)
    return trained


def _prepare(
    run: TrackedRun, config: Config, corpus: Corpus, resume: str
) -> tuple[Training, TrainingRecorder]:
    """Reads all that a training begins with, in every process, and compares what they have read."""
    ranks, monitored = join_processes(), MONITORED_METRICS[config.training.monitor]
    with scratch_directory() as scratch:
        with ranks.tell_failure():
            # What is wrong with the device is found before the data and the weights are read.
            accelerator = open_accelerator(config.compute)
            past = read_past(run.client, resume, monitored, scratch) if resume else Past()
            train, train_data = load_trials(run, corpus, config, TRAIN_TRACK, "training")
            validation, validation_data = _load_validation(run, corpus, config)
            model = _open_model(config, past)
        ranks.wait_for_all()
        same = {name: value for name, value in config.to_flat().items() if name not in MAY_DIFFER}
        same |= {"training trials": train.digest(), "validation trials": validation and validation.digest()}
        ranks.expect_same({**same, "state to resume from": "none" if past.state is None else "one"})
        training = Training(model, train, validation, config, accelerator)
        if past.state is not None:
            training.load(past.state)
            logger.info("Going on in epoch %d, batch %d", training.progress.epoch, training.progress.batch)
    datasets = {"train": train_data, "val": validation_data}
    return training, TrainingRecorder(run, training, corpus.name, datasets, past)


def load_trials(
    run: TrackedRun, corpus: Corpus, config: Config, name: str, context: str, subset: str | None = None
) -> tuple[TrialDataset, Dataset]:
    """Reads the trials of a track, and records its protocol as a dataset of the run."""
    track = corpus.track(name, "validation" if context == "validation" else "track")
    trials = track.trials(corpus.data_root, subset, is_labelled=True)
    data = run.log_dataset(track.key(corpus.data_root), f"{corpus.name}-{name}", context)
    is_training = context == "training"
    augment = is_training or config.training.validation_rawboost
    audio = replace(config.audio, random_crop=config.audio.random_crop and is_training)
    logger.info("%s: %d trials of %s (%s)", context, len(trials), name, corpus.name)
    dataset = TrialDataset(trials, audio, config.rawboost if augment else None, config.training.seed)
    return dataset, data


def resumed_config(run_id: str, options: Mapping[str, str]) -> Config:
    """Returns the configuration of a run that is to go on, with what the user typed anew.

    Raises:
        ValueError: there is no such run, it has no configuration, or something typed would change its losses.
    """
    source = f"run {run_id}"
    with scratch_directory() as scratch:
        client = connect()
        run = get_run(client, run_id, "resume")
        if CONFIG_FILE not in [
            item.path for item in open_artifacts(client, run.info.artifact_uri).list_artifacts()
        ]:
            raise ValueError(
                f"resume: found no configuration of a training on run {run_id}, expected one; "
                "a training that was stopped before it recorded any is started anew"
            )
        path = download(f"runs:/{run.info.run_id}/{CONFIG_FILE}", scratch)
        values: dict[str, Any] = read_config_values(path, source)
    began = build_config(values, source).to_flat()
    config = build_config({**values, **options}, source)
    for name, value in config.to_flat().items():
        if value != began[name] and name not in CHANGEABLE:
            raise ValueError(
                f"{name}: found {value} beside resume, expected {began[name]}, with which the run began; "
                f"only {', '.join(CHANGEABLE)} may change"
            )
    return config


def _load_validation(
    run: TrackedRun, corpus: Corpus, config: Config
) -> tuple[TrialDataset | None, Dataset | None]:
    if config.training.validation == "none":
        return None, None
    name, _, subset = config.training.validation.partition(":")
    return load_trials(run, corpus, config, name, "validation", subset or None)


def _open_model(config: Config, past: Past) -> Countermeasure:
    if past.checkpoint is not None:
        return load_checkpoint(past.checkpoint, backend=config.compute.backend).model
    return build_countermeasure(
        config.model.xlsr_model, config.audio.audio_max_len, config.training.seed, config.compute.backend
    )
