"""Where runs are kept: `mlflow.db` at the project root, unless MLFLOW_TRACKING_URI names another place."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sls.config import PROJECT_ROOT

EXPERIMENT_NAME = "xlsr-sls"
REGISTERED_MODEL_NAME = "xlsr-sls"


def connect() -> MlflowClient:
    """Points MLflow at the tracking store and returns a client of it.

    Without MLFLOW_TRACKING_URI the store is `mlflow.db` at the project root, whatever the working directory.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{PROJECT_ROOT / 'mlflow.db'}")
    return MlflowClient()


def experiment_id(client: MlflowClient) -> str:
    """Returns the experiment for new runs, made if need be: MLFLOW_EXPERIMENT_NAME, or `xlsr-sls`."""
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if given:
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(name)))
        except MlflowException:
            # Another process made it in the meantime.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def _artifact_location(experiment_name: str) -> str | None:
    """Artifacts of a local database lie beside it; a server knows its own place (None)."""
    prefix = "sqlite:///"
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(prefix):
        return None
    return (Path(uri.removeprefix(prefix)).resolve().parent / "mlruns" / experiment_name).as_uri()
