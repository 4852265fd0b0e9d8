"""Where runs are kept: `mlflow.db` at the project root, unless MLFLOW_TRACKING_URI names another place."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from sls.config import PROJECT_ROOT
from sls.files import hold_lock
from sls.tracking.tags import JOURNAL_TAG

EXPERIMENT_NAME = "xlsr-sls"
REGISTERED_MODEL_NAME = "xlsr-sls"


@dataclass(frozen=True)
class Experiment:
    """Where new runs go: the experiment of an id, or where that is empty, of a name."""

    id: str
    name: str


def connect() -> MlflowClient:
    """Points MLflow at the tracking store and returns a client of it.

    Without MLFLOW_TRACKING_URI the store is `mlflow.db` at the project root, whatever the working directory.
    MLflow makes the tables of a new database in every process that opens it, so they open it one by one.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{PROJECT_ROOT / 'mlflow.db'}")
    database = _local_database(mlflow.get_tracking_uri())
    with ExitStack() as stack:
        if database:
            # Where no lock can be made, as in a directory that cannot be written to, no tables are made either.
            with suppress(OSError):
                stack.enter_context(hold_lock(database, waits=True))
        return MlflowClient()


def experiment_id(client: MlflowClient, wanted: Experiment | None = None) -> str:
    """Returns the experiment for new runs (`wanted_experiment`), made if need be."""
    wanted = wanted or wanted_experiment()
    if wanted.id:
        return wanted.id
    name = wanted.name
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, _artifact_location(name, client.tracking_uri)))
        except MlflowException:
            # Another process made it in the meantime.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def wanted_experiment() -> Experiment:
    """Returns what MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME asks for, or `xlsr-sls`."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME
    return Experiment(os.environ.get("MLFLOW_EXPERIMENT_ID", ""), name)


def find_run(client: MlflowClient, run_id: str) -> Run:
    """Returns a run by its id, or by the id that it had while the server was away.

    Raises:
        MlflowException: there is none.
    """
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        experiments = [item.experiment_id for item in client.search_experiments()]
        run = find_by_journal(client, run_id, experiments)
        if run is None:
            raise
        return run


def get_run(client: MlflowClient, run_id: str, parameter: str) -> Run:
    """Returns a run that a user named by a parameter.

    Raises:
        ValueError: there is none.
    """
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise ValueError(f"{parameter}: the tracking store has no run {run_id}") from error


def is_run_id(text: str) -> bool:
    """Whether a text has the form of a run's id."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None


def quoted(value: str) -> str:
    """Returns a value as the filter of a search takes it, whichever quotation mark is in it."""
    mark = '"' if "'" in value else "'"
    return f"{mark}{value}{mark}"


def find_active_run(client: MlflowClient, run_id: str) -> Run | None:
    """Returns a run; None for an empty id, and where the run is of another store or deleted.

    A deleted run is still read by its id, but nothing can be written on it.
    """
    try:
        run = client.get_run(run_id) if run_id else None
    except MlflowException:
        return None
    return run if run and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def find_by_journal(client: MlflowClient, journal: str, experiments: list[str]) -> Run | None:
    """Returns the run that a journal was sent to."""
    if not re.fullmatch(r"\w+", journal):
        return None
    found = client.search_runs(experiments, f"tags.{JOURNAL_TAG} = '{journal}'", max_results=1)
    return found[0] if found else None


def _artifact_location(experiment_name: str, tracking_uri: str) -> str | None:
    """Artifacts of a local database lie beside it; a server knows its own place (None)."""
    database = _local_database(tracking_uri)
    return (database.parent / "mlruns" / experiment_name).as_uri() if database else None


def _local_database(tracking_uri: str) -> Path | None:
    """Returns the file of a SQLite store; None for any other store."""
    prefix = "sqlite:///"
    if not tracking_uri.startswith(prefix):
        return None
    return Path(tracking_uri.removeprefix(prefix)).resolve()
