"""How the served model says no: 400 and one sentence, without a stack trace and without what was sent.

The model refuses by an `MlflowException`, as MLflow documents it. What breaks before the model is asked (no JSON, a
parameter of the wrong type, a broken table) MLflow's server answers by itself, with the data or a stack trace:
`guard_server` is the one place that holds it to a sentence.
"""

import inspect
import logging
import sys
from collections.abc import Callable
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import pandas as pd
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from sls.plain_data import parse_json

SCORING_SERVER = "mlflow.pyfunc.scoring_server"
GUARDED_PARAMETERS = ("data", "content_type", "model", "input_schema")
"""Of the server's function `invocations`, from the bytes of a request to its answer."""
JSON_TYPE = "application/json"
PARQUET_TYPE = "application/vnd.apache.parquet"
"""Which the server would take, and in which a few bytes may stand for any number of rows."""
MAX_LISTS = 10_000
"""Far more than rows and their samples need; each of two bytes of JSON takes fifty in memory."""
INPUT_FORMATS = ("dataframe_records", "dataframe_split", "instances", "inputs")
PARAMS = "params"
DECORATOR = "_async_catch_mlflow_exception"
"""Of the server, around what reads a request: it makes refusals answers."""
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

    MLflow's server writes the request's data before an error's message; here the message stays as it was, so that
    the answer does not hold the audio.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The sentence."""
        return str(self)

    @message.setter
    def message(self, text: str) -> None:
        """Leaves the sentence as it is."""


def guard_server(max_bytes: int) -> None:
    """Holds MLflow's scoring server, where this process is one, to refusals of one sentence.

    A server whose function is not the one that is known here answers as MLflow does, and the log says so. A request
    of more bytes is refused before it is parsed.
    """
    server: Any = sys.modules.get(SCORING_SERVER)
    invocations = getattr(server, "invocations", None)
    if server is None or hasattr(invocations, "__wrapped__"):
        return
    if invocations is None or tuple(inspect.signature(invocations).parameters) != GUARDED_PARAMETERS:
        logger.warning("MLflow's server has changed: its own errors may hold what was sent")
        return
    server.invocations = guard(invocations, max_bytes)
    # The server's application, which is made after the model was loaded, reads the body inside this decorator.
    decorate = getattr(server, DECORATOR, None)
    if decorate is None:
        logger.warning("MLflow's server has changed: it takes a request whole before its length is looked at")
        return

    @wraps(decorate)
    def decorate_limited(answer: Callable[..., Any]) -> Any:
        return decorate(limit_body(answer, max_bytes))

    setattr(server, DECORATOR, decorate_limited)


def limit_body(answer: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    """Returns the server's answer to a request, which then refuses a body as soon as it is too long.

    By what its header says, or as it comes: in chunks it may have no end.
    """

    @wraps(answer)
    async def answer_limited(request: Any) -> Any:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > max_bytes:
            raise RefusedRequest(f"request: found {length} bytes, expected at most {max_bytes}")
        num_bytes = 0

        async def receive() -> Any:
            nonlocal num_bytes
            message = await request.receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > max_bytes:
                raise RefusedRequest(f"request: found {num_bytes} bytes so far, expected at most {max_bytes}")
            return message

        return await answer(type(request)(request.scope, receive))

    return answer_limited


def guard(invocations: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    """Returns the server's function with its errors turned into refusals; the log has what went wrong, by type."""

    @wraps(invocations)
    def guarded(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
        if len(data) > max_bytes:
            raise RefusedRequest(f"request: found {len(data)} bytes, expected at most {max_bytes}")
        kind = content_type or JSON_TYPE
        if kind.strip().startswith(PARQUET_TYPE):
            raise RefusedRequest(UNKNOWN_TYPE)
        try:
            # The server takes parsed JSON as it takes its bytes.
            body = _parse(data) if kind.partition(";")[0].strip() == JSON_TYPE else data
            strict = SimpleNamespace(metadata=model.metadata, predict=partial(_predict_strictly, model))
            answer = invocations(body, kind, strict, input_schema)
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


def _parse(data: bytes) -> dict[str, Any]:
    """Parses the body of a request.

    Raises:
        RefusedRequest: it has a key beside an input format and `params`, which the server would leave out: a
            parameter there would be a decision at another prior than the one that was asked for.
        ValueError: it is no JSON object.
    """
    if data.count(b"[") + data.count(b"{") > MAX_LISTS:
        raise RefusedRequest(f"request: found more than {MAX_LISTS} lists and objects, {EXPECTED}")
    body = parse_json(data)
    if not isinstance(body, dict):
        raise ValueError("no JSON object")
    for key in body:
        if key not in (*INPUT_FORMATS, PARAMS):
            name = repr(key) if len(key) <= MAX_QUOTED and key.isidentifier() else "a key"
            raise RefusedRequest(
                f"request: found {name} beside the input, expected one of {', '.join(INPUT_FORMATS)}, and {PARAMS}"
            )
    return body


def _predict_strictly(model: Any, data: Any, params: Any = None) -> Any:
    """Predicts as the server's model does, which leaves out parameters that are misspelt or stand in a row.

    A decision at another prior than the one that was asked for would look like any other.

    Raises:
        RefusedRequest: there is such a parameter; its name is not quoted: a client may have put anything there.
    """
    known = [spec.name for spec in model.metadata.get_params_schema() or ()]
    if isinstance(params, dict) and not set(params) <= set(known):
        raise RefusedRequest(
            f"params: found one that the signature does not have, expected some of {', '.join(known)}"
        )
    tables = data if isinstance(data, list) else [data]
    columns = {str(name) for table in tables if isinstance(table, (dict, pd.DataFrame)) for name in table}
    misplaced = ", ".join(sorted(columns.intersection(known)))
    if misplaced:
        raise RefusedRequest(f"rows: found {misplaced}, expected it in {PARAMS}, beside the input")
    return model.predict(data, params=params)
