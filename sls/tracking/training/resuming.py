"""What a training run left behind, from which it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from sls.config import Config
from sls.config_file import build_config, read_config_values
from sls.engine.training.state import read_state
from sls.files import scratch_directory
from sls.tracking.artifacts import download_state
from sls.tracking.registry.checkpoints import checkpoints_of, epoch_name, has_weights, resolve_model
from sls.tracking.store import connect, find_run

STATE_DIRECTORY = "state"
CONFIG_FILE = "config.yaml"
CHANGEABLE = ("data_root", "tracks", "device", "num_workers", "eval_batch_size", "max_failures")
"""What a resumed training may have otherwise: where its data lie, and where the work is done. As other hardware may,
another `eval_batch_size` moves the last digits of the validation loss, and nothing else."""


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

    def has(self, metric: str, step: int) -> bool:
        """Whether a point was recorded."""
        return step in self.steps_by_metric.get(metric, ())


def resumed_config(run_id: str, options: Mapping[str, str]) -> Config:
    """Returns the configuration of a run that is to go on, with what the user typed anew.

    Raises:
        ValueError: there is no such run, it has no configuration, or something typed would change its losses.
    """
    with scratch_directory() as scratch:
        try:
            run = find_run(connect(), run_id)
            path = download_artifacts(
                run_id=run.info.run_id, artifact_path=CONFIG_FILE, dst_path=str(scratch)
            )
        except (MlflowException, OSError) as error:
            raise ValueError(f"resume: found no configuration of a training run {run_id}") from error
        values: dict[str, Any] = read_config_values(path)
    source = f"run {run_id}"
    began = build_config(values, source).to_flat()
    config = build_config({**values, **options}, source)
    for name, value in config.to_flat().items():
        if value != began[name] and name not in CHANGEABLE:
            raise ValueError(
                f"{name}: found {value} beside resume, expected {began[name]}, with which the run began; "
                f"only {', '.join(CHANGEABLE)} may change"
            )
    return config


def read_past(client: MlflowClient, run_id: str, monitored: str, directory: Path) -> Past:
    """Reads what a run has recorded, and fetches its state into a directory.

    Raises:
        ValueError: its state is torn, or the weights that go with it are gone.
    """
    run = find_run(client, run_id)
    run_id = run.info.run_id
    history = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    handles = {
        epoch: model.model_id for epoch, model in checkpoints_of(client, run).items() if has_weights(model)
    }
    losses = {point.step: point.value for point in history.get(monitored, ())}
    steps = {name: frozenset(point.step for point in points) for name, points in history.items()}
    if not any(item.path.startswith(STATE_DIRECTORY) for item in client.list_artifacts(run_id)):
        # Stopped before there was a state: it begins anew, and repeats what it has recorded.
        return Past(steps, handles, losses)
    download_state(client, run_id, STATE_DIRECTORY, directory)
    state, checkpoint = read_state(directory), None
    if "weights" not in state:
        uri = f"runs:/{run_id}/{epoch_name(state['progress']['epoch'] - 1)}"
        checkpoint = resolve_model(client, uri, directory / "checkpoint").path
    return Past(steps, handles, losses, directory, checkpoint)
