"""How the served model says no: 400 and one sentence, without a stack trace and without what was sent."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pandas as pd
from mlflow.exceptions import DEADLINE_EXCEEDED, INVALID_PARAMETER_VALUE, MlflowException

SCORING_SERVER = "mlflow.pyfunc.scoring_server"
JSON_TYPE = "application/json"
INPUT_FORMATS = ("dataframe_records", "dataframe_split", "instances", "inputs")
PARAMS = "params"
MAX_QUOTED = 24
"""Characters of a key that is quoted; a longer one may be the recording."""
UNKNOWN_TYPE = f"content type: found one that is not taken, expected {JSON_TYPE} in UTF-8"
EXPECTED = (
    'expected JSON such as {"dataframe_records": [{"audio": BASE64}], "params": {}}, its params of the types of '
    "the signature"
)

logger = logging.getLogger(__name__)


class RefusedRequest(MlflowException):
    """Answered by the server with 400 and one sentence.

    MLflow's server puts the request's data before an error's message; here the message stays as it was written,
    so that the answer does not hold the audio.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, text: str) -> None:
        self._sentence: str = self.__dict__.get("_sentence", text)


class _StrictModel:
    """The server's model, which refuses parameters that are misspelt or stand in a row; MLflow leaves them out.

    A decision at another prior than the one that was asked for would look like any other.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, data: Any, params: Any = None) -> Any:
        """Predicts as the model does.

        Raises:
            RefusedRequest: a parameter is unknown (its name is not quoted: a client may have put anything there),
                or a column of the input.
        """
        known = [spec.name for spec in self._model.metadata.get_params_schema() or ()]
        if isinstance(params, dict) and not set(params) <= set(known):
            raise RefusedRequest(
                f"params: found one that the signature does not have, expected some of {', '.join(known)}"
            )
        misplaced = ", ".join(sorted(_columns_of(data).intersection(known)))
        if misplaced:
            raise RefusedRequest(f"rows: found {misplaced}, expected it in {PARAMS}, beside the input")
        return self._model.predict(data, params=params)


def _columns_of(data: Any) -> set[str]:
    """Returns the names of the columns of an input, in whichever form the server parsed it."""
    tables = data if isinstance(data, list) else [data]
    return {str(name) for table in tables if isinstance(table, (dict, pd.DataFrame)) for name in table}


def guard_server(max_bytes: int) -> None:
    """Holds MLflow's scoring server, where this process is one, to refusals of one sentence.

    What breaks before the model is asked (no JSON, a parameter of the wrong type, a broken table) the server
    answers by itself: with the data, or with a stack trace; and what takes too long, with a text that is called
    JSON. It has no place to change that but its functions.

    Args:
        max_bytes: of a request; a longer one is refused before it is parsed.
    """
    server = sys.modules.get(SCORING_SERVER)
    if server is not None and not hasattr(server.invocations, "__wrapped__"):
        server.invocations = guard(server.invocations, max_bytes)  # type: ignore[attr-defined]
        # The server is not yet made: the model is loaded first, and its routes pass through this decorator.
        catch = server._async_catch_mlflow_exception
        limit_s = server.MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()
        # A little less than the server's own limit, which would come first otherwise.
        own_s = limit_s - min(1, limit_s / 4)
        server._async_catch_mlflow_exception = lambda handle: catch(limit_time(handle, own_s))  # type: ignore[attr-defined]


def guard(invocations: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    """Returns the server's function with its errors turned into refusals; the log has what went wrong, by type."""

    @wraps(invocations)
    def guarded(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
        if len(data) > max_bytes:
            raise RefusedRequest(f"request: found {len(data)} bytes, expected at most {max_bytes}")
        kind = content_type or JSON_TYPE
        try:
            # The server takes parsed JSON as it takes its bytes.
            body = _parse(data) if kind.partition(";")[0].strip() == JSON_TYPE else data
            answer = invocations(body, kind, _StrictModel(model), input_schema)
        except RefusedRequest:
            raise
        except Exception as error:
            cause = error.__cause__ or error.__context__ or error
            logger.warning("refused a request: %s, from %s", type(error).__name__, type(cause).__name__)
            raise RefusedRequest(f"request: found what does not fit the signature, {EXPECTED}") from None
        if answer.status == 200:
            return answer
        # A paragraph of text, which quotes the content type.
        logger.warning("refused a request: status %d", answer.status)
        return answer._replace(response=RefusedRequest(UNKNOWN_TYPE).serialize_as_json(), mimetype=JSON_TYPE)

    return guarded


def limit_time(handle: Callable[..., Awaitable[Any]], limit_s: float) -> Callable[..., Awaitable[Any]]:
    """Returns the server's handler of requests, which gives up after `limit_s` seconds: 504 and one sentence."""

    @wraps(handle)
    async def limited(*args: Any, **kwargs: Any) -> Any:
        try:
            return await asyncio.wait_for(handle(*args, **kwargs), limit_s)
        except TimeoutError:
            sentence = f"request: took more than {limit_s:g} s; send fewer rows, or raise curve_hop_s"
            raise MlflowException(sentence, DEADLINE_EXCEEDED) from None

    return limited


def _parse(data: bytes) -> dict[str, Any]:
    """Parses the body of a request.

    Raises:
        RefusedRequest: it has a key beside an input format and `params`, which the server would leave out: a
            parameter there would be a decision at another prior than the one that was asked for.
        ValueError: it is no JSON object.
    """
    body = json.loads(data)
    if not isinstance(body, dict):
        raise ValueError("no JSON object")
    for key in body:
        if key not in (*INPUT_FORMATS, PARAMS):
            name = repr(key) if len(key) <= MAX_QUOTED and key.isidentifier() else "a key"
            raise RefusedRequest(
                f"request: found {name} beside the input, expected one of {', '.join(INPUT_FORMATS)}, and {PARAMS}"
            )
    return body
