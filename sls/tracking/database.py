"""The database behind the tracking store, where MLflow opens it itself: whether it opens, and where artifacts lie.

MLflow keeps the absolute place of every artifact in it, which is wrong once the store was moved.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

SQLITE_PREFIX = "sqlite:///"
SQLITE_HEADER = b"SQLite format 3\0"
CONNECT_TIMEOUT_S = 5
MOVING = "see docs/server.md#a-store-that-was-moved"


class StoreError(ValueError):
    """The store cannot be used as it is; the message says why, and what to do."""


def local_database(tracking_uri: str) -> Path | None:
    """Returns the file of a SQLite store; None for any other store."""
    if not tracking_uri.startswith(SQLITE_PREFIX):
        return None
    return Path(unquote(tracking_uri.removeprefix(SQLITE_PREFIX).partition("?")[0])).resolve()


def is_database(tracking_uri: str) -> bool:
    """Whether MLflow opens the store as a database, with no server in between."""
    return urlsplit(tracking_uri).scheme.partition("+")[0] in DATABASE_ENGINES


def require_open(tracking_uri: str) -> None:
    """Opens a database once: MLflow itself tries for two minutes, and then prints hundreds of lines.

    Raises:
        StoreError: it does not open, or cannot be written to.
    """
    database = local_database(tracking_uri)
    if database is not None:
        _require_file(database)
    if not is_database(tracking_uri):
        return
    with _explained(tracking_uri), _connected(tracking_uri) as connection:
        sqlalchemy.inspect(connection)


def require_there(tracking_uri: str) -> None:
    """Raises StoreError where a SQLite database is not there: whoever opens it would make an empty one."""
    database = local_database(tracking_uri)
    if database is not None and not database.is_file():
        raise StoreError(f"found no tracking store {database}; if it was moved, {MOVING}")


def _require_file(database: Path) -> None:
    if database.exists() and not database.is_file():
        found = "directory" if database.is_dir() else "pipe, socket or device"
        raise StoreError(f"MLFLOW_TRACKING_URI: found the {found} {database}, expected a SQLite database")
    if database.exists():
        with database.open("rb") as file:
            header = file.read(len(SQLITE_HEADER))
        if header not in (b"", SQLITE_HEADER):
            raise StoreError(f"MLFLOW_TRACKING_URI: found {database}, expected a SQLite database")
    directory = next(path for path in database.parents if path.exists())
    for path in (database, directory):
        if path.exists() and not os.access(path, os.W_OK):
            raise StoreError(
                f"the tracking store {database} cannot be written to ({path} is read-only); name another one by "
                "MLFLOW_TRACKING_URI=sqlite:////DIRECTORY/mlflow.db"
            )


def require_place(location: str) -> None:
    """Checks that the disk knows the store that a run or model has its artifacts in.

    They lie in `.../STORE/EXPERIMENT/RUN/artifacts`, or deeper.

    Raises:
        StoreError: not even the directory in which that store lay is there.
    """
    path = local_path(location)
    if path is not None and not any(place.exists() for place in (path, *path.parents[:4])):
        raise gone(path)


def local_path(location: str) -> Path | None:
    """Returns the place of artifacts on this disk; None where it is elsewhere."""
    return Path(local_file_uri_to_path(location)) if is_local_uri(location) else None


def gone(path: Path) -> StoreError:
    """Returns the error that says which place of artifacts is not there."""
    return StoreError(f"found no {path}, where artifacts should lie; if the store was moved, {MOVING}")


def move_places(tracking_uri: str, old: str, new: str, *, is_dry: bool) -> Iterator[tuple[str, int]]:
    """Writes a new beginning into the places of artifacts that begin with an old one, a directory.

    A dry run counts alone, and changes nothing.

    Yields:
        The column, and in how many rows it began so.

    Raises:
        StoreError: no database, or it does not open.
    """
    if not is_database(tracking_uri):
        raise StoreError(f"MLFLOW_TRACKING_URI: found {tracking_uri}, expected the server's own database")
    require_there(tracking_uri)
    require_open(tracking_uri)
    with _explained(tracking_uri), _connected(tracking_uri) as connection:
        for column in _columns_of_places():
            table, count = column.class_, 0
            for before, after in ((old, new), (Path(old).as_uri(), Path(new).as_uri())):
                begins_so = _begins_with(column, before)
                if after.startswith(f"{before}/"):  # moved into itself; what was told once is not told again
                    begins_so = sqlalchemy.and_(begins_so, sqlalchemy.not_(_begins_with(column, after)))
                rest = sqlalchemy.func.substr(column, len(before) + 1)
                moved = sqlalchemy.update(table).where(begins_so).values({column: after + rest})
                found = sqlalchemy.select(sqlalchemy.func.count()).select_from(table).where(begins_so)
                count += connection.scalar(found) or 0
                if not is_dry:
                    connection.execute(moved)
            yield f"{table.__tablename__}.{column.key}", count


def _columns_of_places() -> tuple[Any, ...]:
    """Returns the columns in which MLflow keeps places of artifacts."""
    # Half a second, which whoever opens a store through a server need not wait for.
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun

    return (
        SqlExperiment.artifact_location,
        SqlRun.artifact_uri,
        SqlLoggedModel.artifact_location,
        SqlModelVersion.source,
        SqlModelVersion.storage_location,
    )


def _begins_with(column: Any, directory: str) -> Any:
    return sqlalchemy.or_(column == directory, column.startswith(f"{directory}/", autoescape=True))


@contextmanager
def _explained(tracking_uri: str) -> Iterator[None]:
    """Says in one line what the database answers."""
    where = f"MLFLOW_TRACKING_URI: the database {_without_password(tracking_uri)}"
    try:
        yield
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:  # a driver, or a dialect
        raise StoreError(f"{where} needs a driver that is not installed: {error}") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StoreError(f"{where} does not answer: {reason}") from error


def database_answer(error: BaseException | None, tracking_uri: str) -> str:
    """Returns what a database said where an error comes from there, without its SQL; else an empty text."""
    while error is not None:
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            return f"the tracking store {_without_password(tracking_uri)} answers: {error.orig}"
        error = error.__cause__
    return ""


def _connected(tracking_uri: str) -> AbstractContextManager[sqlalchemy.Connection]:
    """Returns a transaction, which a `with` block commits."""
    is_remote = tracking_uri.startswith(("postgresql", "mysql"))
    arguments = {"connect_timeout": CONNECT_TIMEOUT_S} if is_remote else {}
    return sqlalchemy.create_engine(
        tracking_uri, connect_args=arguments, poolclass=sqlalchemy.NullPool
    ).begin()


def _without_password(tracking_uri: str) -> str:
    try:
        return sqlalchemy.engine.make_url(tracking_uri).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return urlsplit(tracking_uri).scheme
