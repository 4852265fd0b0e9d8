"""Calls to the tracking server and its artifact store: how long one may take, and what its error means."""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import requests
from mlflow.exceptions import MlflowException

from sls.files import naming

OPENING_TIMEOUT_S, CALL_TIMEOUT_S = 15, 60
"""How long a run waits for an answer when it begins, and the sender afterwards."""
NUM_RETRIES = 4
"""Of a run without a journal that is under way: over half a minute, in which a server is started anew."""
# What MLflow says of the request itself. Anything else, a missing permission too, may be well another time.
REFUSAL_CODES = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
PAGE = "API request to endpoint"
"""How MLflow's client begins its error where the answer is not MLflow's own JSON."""
# By themselves, or behind the error that MLflow raises for them.
NO_ANSWER = (
    ConnectionError,
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # an answer that breaks off
)
# How databases say that another client made the same row first.
RACES = ("UniqueViolation", "UNIQUE constraint failed", "Duplicate entry")

Result = TypeVar("Result")
P = ParamSpec("P")
Call = Callable[Concatenate[Any, P], None]

CALLS: dict[str, Callable[..., None]] = {}
"""The calls to the server that an entry may ask for, by name."""
DELETIONS = ("delete_checkpoint", "delete_states")
"""Those that take something away, which what replaces it must not come after."""


_set_here: set[str] = set()


@contextmanager
def short_calls(timeout_s: int = CALL_TIMEOUT_S, num_retries: int = 0) -> Iterator[None]:
    """Keeps MLflow from waiting minutes within one call, unless the user has set how long it should.

    Without tries of MLflow's own by default: the sender tries again by itself. Of two blocks the inner one counts.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(num_retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s),
    }
    before = {name: os.environ.get(name) for name in wanted if name not in os.environ or name in _set_here}
    os.environ.update({name: wanted[name] for name in before})
    _set_here.update(before)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
                _set_here.discard(name)
            else:
                os.environ[name] = value


def is_refusal(error: Exception) -> bool:
    """Says whether MLflow will never take this request, as against being away or out of order.

    The page of a gateway in between, whatever its status, is no word of MLflow's.
    """
    if isinstance(error, MlflowException):
        return error.error_code in REFUSAL_CODES and not str(error).startswith(PAGE)
    if isinstance(error, requests.HTTPError):  # from artifacts that go through the server
        return _error_code(error.response) in REFUSAL_CODES
    return isinstance(error, (TypeError, KeyError))


def make_call(call: Callable[[], Result]) -> Result:
    """Makes a call, and once more where another client made the same at the same time: it finds that then."""
    try:
        return call()
    except MlflowException as error:
        if not any(words in str(error) for words in RACES):
            raise
        return call()


def recorded(call: Call[P]) -> Call[P]:
    """Makes of a run's call to the server what a run with a journal writes down there, for its sender to make it.

    The arguments are JSON, but for `files`, given by name: a directory that is taken over and that nobody will
    change; None where it has become needless. A `handle` names the files that a call brings or takes away: those of
    an earlier call with the same one are needless from then on.
    """
    names = list(inspect.signature(call).parameters)[1:]
    CALLS[call.__name__] = call

    @functools.wraps(call)
    def record(run: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        if run.journal is not None:
            arguments: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
            files = arguments.pop("files", None)
            with naming(run.journal.path):
                run.journal.append(call.__name__, arguments, files)
        elif not run.is_silent:
            make_call(lambda: call(run, *args, **kwargs))

    return record


def is_away(error: Exception) -> bool:
    """Says whether the server did not answer."""
    return any(isinstance(link, NO_ANSWER) for link in (error, error.__context__))


def is_server_failure(error: BaseException) -> bool:
    """Says whether the server, or a gateway before it, is away or out of order."""
    is_mlflow = isinstance(error, (MlflowException, requests.RequestException))
    return isinstance(error, Exception) and (is_away(error) or (is_mlflow and not is_refusal(error)))


def describe(error: Exception) -> tuple[str, str]:
    """Returns what went wrong in words, and the error in at most 200 characters of one line."""
    trouble = "the tracking server is away" if is_away(error) else "recordings could not be sent"
    return trouble, ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))[:200]


def _error_code(response: requests.Response | None) -> Any:
    try:
        answer = response.json() if response is not None else None
    except ValueError:
        return None
    return answer.get("error_code") if isinstance(answer, dict) else None
