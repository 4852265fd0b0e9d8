"""Where runs are kept, and how they are found there.

That is `mlflow.db` at the project root, unless MLFLOW_TRACKING_URI names another place.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache, partial
from typing import TypeVar
from urllib.parse import quote, urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from sls.config import PROJECT_ROOT
from sls.processes import hold_lock
from sls.tracking.database import StoreError, gone, local_database, local_path, require_open
from sls.tracking.offline.server_calls import OPENING_TIMEOUT_S, is_refusal, is_server_failure, short_calls
from sls.tracking.server_answers import watch_answers
from sls.tracking.tags import ENDED_TAG, JOURNAL_TAG

watch_answers()

EXPERIMENT_NAME = "xlsr-sls"
REGISTERED_MODEL_NAME = "xlsr-sls"
FINISHED = "attributes.status = 'FINISHED'"
"""A condition of `find_runs`."""
NEWEST_FIRST = (f"tags.{ENDED_TAG} DESC", "attributes.end_time DESC")
"""An order of `find_runs`: the last that ended comes first, whatever the clocks say, by which those
are told apart alone that something else has ended."""
MAX_PAGE_SIZE = 1_000

Found = TypeVar("Found")


def connect() -> MlflowClient:
    """Points MLflow at the tracking store and returns a client of it.

    Without MLFLOW_TRACKING_URI the store is `mlflow.db` at the project root, whatever the working directory.
    MLflow makes the tables of a new database in every process that opens it, so they open it one by one.

    Raises:
        ValueError: the run that `mlflow run` has opened is in another database: its address was a relative one.
        StoreError: a database that does not open, or cannot be written to.
    """
    uri = tracking_uri()
    database = local_database(uri)
    if database and "MLFLOW_RUN_ID" in os.environ and not database.exists():
        raise ValueError(
            f"MLFLOW_TRACKING_URI: found no {database}, expected a whole path: sqlite:////DIRECTORY/NAME.db"
        )
    with ExitStack() as stack:
        if database:
            # Where no lock can be made, as in a directory that cannot be written to, no tables are made either.
            with suppress(OSError):
                stack.enter_context(hold_lock(database, waits=True))
        require_open(uri)
        return MlflowClient()


@cache
def require_answer(tracking_uri: str) -> None:
    """Asks a server once whether it is there, in seconds; raises ConnectionError where not, or MlflowException."""
    if not tracking_uri.startswith("http"):
        return
    try:
        with short_calls(OPENING_TIMEOUT_S):
            MlflowClient(tracking_uri).search_experiments(max_results=1)
    except MlflowException as error:
        if not is_server_failure(error) or error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            raise
        user, _, address = urlsplit(tracking_uri).netloc.rpartition("@")
        reason = " ".join(str(error.__context__ or error).split()).replace(f"{user}@", "")
        raise ConnectionError(f"no tracking server answers at {address}: {reason}") from error


def tracking_uri() -> str:
    """Points MLflow at the tracking store, and returns its address."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{PROJECT_ROOT / 'mlflow.db'}")
    return str(mlflow.get_tracking_uri())


def experiment_id(client: MlflowClient, wanted: Mapping[str, str] | None = None) -> str:
    """Returns the experiment for new runs, made if need be; raises StoreError where it, or its place, is gone."""
    wanted = wanted or wanted_experiment()
    name = wanted["name"]
    experiment = client.get_experiment(wanted["id"]) if wanted["id"] else client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, _artifact_location(name, client.tracking_uri)))
        except MlflowException:
            # Another process made it in the meantime.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    number = str(experiment.experiment_id)
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise StoreError(
            f"the experiment {experiment.name} is deleted; `mlflow experiments restore --experiment-id {number}` "
            "restores it, and MLFLOW_EXPERIMENT_NAME names another one"
        )
    path = local_path(experiment.artifact_location)
    if path is not None and not path.exists():
        # Nothing lies there before the first run; those of ours, which have a kind, all keep something.
        ours = find_first_run(client, FINISHED, "tags.kind != ''", experiments=[number])
        if ours or not any(place.exists() for place in path.parents[:2]):
            raise gone(path)
    return number


def wanted_experiment() -> dict[str, str]:
    """Returns the `id` and `name` that MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME ask for, else `xlsr-sls`."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME
    return {"id": os.environ.get("MLFLOW_EXPERIMENT_ID", ""), "name": name}


def find_run(client: MlflowClient, run_id: str) -> Run:
    """Returns a run by its id, or that of its time without a server; raises MlflowException where there is none."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        run = find_by_journal(client, run_id)
        if run is None:
            raise
        return run


def get_run(client: MlflowClient, run_id: str, parameter: str) -> Run:
    """Returns a run that a user named by a parameter, as `find_run` does; raises ValueError where there is none."""
    try:
        return find_run(client, run_id)
    except MlflowException as error:
        if not is_refusal(error):
            raise
        raise ValueError(f"{parameter}: the tracking store has no run {run_id or 'without an id'}") from error


def is_run_id(text: str) -> bool:
    """Whether a text has the form of a run's id."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None


def find_known_run(client: MlflowClient, run_id: str) -> Run | None:
    """Returns a run, a deleted one too; None for an empty id, and where the run is of another store."""
    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if not is_refusal(error) and error.error_code != "PERMISSION_DENIED":
            raise
        return None


def find_active_run(client: MlflowClient, run_id: str) -> Run | None:
    """Returns a run as `find_known_run` does, unless it is deleted: then nothing can be written on it."""
    run = find_known_run(client, run_id)
    return run if run and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def find_by_journal(client: MlflowClient, journal: str, experiments: Sequence[str] = ()) -> Run | None:
    """Returns the run that a journal was sent to."""
    if not re.fullmatch(r"\w+", journal):
        return None
    return find_first_run(client, tagged(**{JOURNAL_TAG: journal}), experiments=experiments)


def find_runs(
    client: MlflowClient,
    *conditions: str,
    experiments: Sequence[str] = (),
    order_by: Sequence[str] = (),
    page_size: int = MAX_PAGE_SIZE,
) -> Iterator[Run]:
    """Yields the runs of experiments, or of all, for which all conditions hold, read page by page.

    Conditions are those of MLflow's filters, such as `tagged`, and so are orders, such as `NEWEST_FIRST`.
    """
    places = list(experiments) or [item.experiment_id for item in client.search_experiments()]
    search = partial(
        client.search_runs,
        places,
        " and ".join(conditions),
        max_results=page_size,
        order_by=list(order_by) or None,
    )
    return _read_pages(lambda token: search(page_token=token))


def find_first_run(
    client: MlflowClient, *conditions: str, experiments: Sequence[str] = (), order_by: Sequence[str] = ()
) -> Run | None:
    """Returns the first of what `find_runs` yields."""
    return next(find_runs(client, *conditions, experiments=experiments, order_by=order_by, page_size=1), None)


def place_in_order(run: Run) -> tuple[bool, str, int]:
    """Returns by what runs are sorted as `NEWEST_FIRST` does the other way round; those under way are the newest."""
    return run.info.status == "RUNNING", run.data.tags.get(ENDED_TAG, ""), run.info.start_time


def tagged(**tags: str) -> str:
    """Returns the condition that a run has these tags, whichever quotation mark is in them."""
    marks = {name: '"' if "'" in value else "'" for name, value in tags.items()}
    return " and ".join(f"tags.{name} = {mark}{tags[name]}{mark}" for name, mark in marks.items())


def find_versions(client: MlflowClient, name: str = REGISTERED_MODEL_NAME) -> list[ModelVersion]:
    """Returns the versions of a registered model."""
    condition = f"name='{name}'"
    return list(_read_pages(lambda token: client.search_model_versions(condition, page_token=token)))


def _read_pages(search: Callable[[str | None], PagedList[Found]]) -> Iterator[Found]:
    """Yields what a search finds, by the token of each page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _artifact_location(experiment_name: str, tracking_uri: str) -> str | None:
    """Artifacts of a local database lie beside it; a server knows its own place (None)."""
    database = local_database(tracking_uri)
    # No name leads out of that directory.
    folder = quote(experiment_name, safe=" ") if set(experiment_name) & {"/", "%"} else experiment_name
    folder = folder if folder.strip(".") else f"experiment {folder}"
    return (database.parent / "mlruns" / folder).as_uri() if database else None
