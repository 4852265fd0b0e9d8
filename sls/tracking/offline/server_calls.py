"""Calls to the tracking server and its artifact store: how long one may take, and what its error means."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import requests
from mlflow.exceptions import MlflowException

OPENING_TIMEOUT_S, CALL_TIMEOUT_S = 15, 60
"""How long a run waits for an answer when it begins, and the sender afterwards."""
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


@contextmanager
def short_calls(timeout_s: int = CALL_TIMEOUT_S) -> Iterator[None]:
    """Keeps MLflow from waiting minutes within one call, unless the user has set how long it should."""
    # Without tries of MLflow's own: the sender tries again by itself.
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s)}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


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


def is_away(error: Exception) -> bool:
    """Says whether the server did not answer."""
    return any(isinstance(link, NO_ANSWER) for link in (error, error.__context__))


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
