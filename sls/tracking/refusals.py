"""How the served model says no: 400 and one sentence, without a stack trace and without what was sent."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

SCORING_SERVER = "mlflow.pyfunc.scoring_server"
JSON_TYPE = "application/json"
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
    """The server's model, which refuses parameters that its signature does not have; MLflow leaves them out.

    A decision at another prior than the one that was misspelt would look like any other.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, data: Any, params: Any = None) -> Any:
        """Predicts as the model does.

        Raises:
            RefusedRequest: a parameter is unknown. Its name is not quoted: a client may have put anything there.
        """
        known = [spec.name for spec in self._model.metadata.get_params_schema() or ()]
        if isinstance(params, dict) and not set(params) <= set(known):
            raise RefusedRequest(
                f"params: found one that the signature does not have, expected some of {', '.join(known)}"
            )
        return self._model.predict(data, params=params)


def guard_server(max_bytes: int) -> None:
    """Holds MLflow's scoring server, where this process is one, to refusals of one sentence.

    What breaks before the model is asked (no JSON, a parameter of the wrong type, a broken table) the server
    answers by itself: with the data, or with a stack trace. It has no place to change that but this function.

    Args:
        max_bytes: of a request; a longer one is refused before it is parsed.
    """
    server = sys.modules.get(SCORING_SERVER)
    if server is not None and not hasattr(server.invocations, "__wrapped__"):
        server.invocations = guard(server.invocations, max_bytes)  # type: ignore[attr-defined]


def guard(invocations: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    """Returns the server's function with its errors turned into refusals; the log has what went wrong, by type."""

    @wraps(invocations)
    def guarded(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
        if len(data) > max_bytes:
            raise RefusedRequest(f"request: found {len(data)} bytes, expected at most {max_bytes}")
        try:
            return invocations(data, content_type or JSON_TYPE, _StrictModel(model), input_schema)
        except RefusedRequest:
            raise
        except Exception as error:
            cause = error.__cause__ or error.__context__ or error
            logger.warning("refused a request: %s, from %s", type(error).__name__, type(cause).__name__)
            raise RefusedRequest(f"request: found what does not fit the signature, {EXPECTED}") from None

    return guarded
