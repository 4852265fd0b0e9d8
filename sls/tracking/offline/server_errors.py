"""What an error of the tracking server or of its artifact store means for what was being sent."""

from __future__ import annotations

from typing import Any

import requests
from mlflow.exceptions import MlflowException

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


def is_refusal(error: Exception) -> bool:
    """Says whether MLflow will never take this request, as against being away or out of order.

    The page of a gateway in between, whatever its status, is no word of MLflow's.
    """
    if isinstance(error, MlflowException):
        return error.error_code in REFUSAL_CODES and not str(error).startswith(PAGE)
    if isinstance(error, requests.HTTPError):  # from artifacts that go through the server
        return _error_code(error.response) in REFUSAL_CODES
    return isinstance(error, (TypeError, KeyError))


def is_race(error: Exception) -> bool:
    """Says whether another client recorded the same at the same time, so that a second try will find it there."""
    return isinstance(error, MlflowException) and any(words in str(error) for words in RACES)


def is_away(error: Exception) -> bool:
    """Says whether the server did not answer."""
    return any(isinstance(link, NO_ANSWER) for link in (error, error.__context__))


def _error_code(response: requests.Response | None) -> Any:
    try:
        answer = response.json() if response is not None else None
    except ValueError:
        return None
    return answer.get("error_code") if isinstance(answer, dict) else None
