"""Refusals: what MLflow's scoring server would say by itself, in one sentence."""

import asyncio
import inspect
import json
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow.types import DataType, ParamSchema, ParamSpec

from sls.serving.contract import make_signature
from sls.serving.errors import DECORATOR, GUARDED_PARAMETERS, RefusedRequest, guard, guard_server

MODEL = SimpleNamespace(metadata=None)


def answer(response: Any) -> scoring_server.InvocationsResponse:
    return scoring_server.InvocationsResponse(response, 200, "application/json")


def test_message_stays_as_it_was_written_and_is_answered_with_400() -> None:
    error = RefusedRequest("audio: not base64")
    error.message = f"Failed to predict data 'UklG'. \nError: {error.message}"
    assert error.message == "audio: not base64"
    assert json.loads(error.serialize_as_json())["message"] == "audio: not base64"
    assert error.get_http_status_code() == 400


def test_long_request_is_refused_before_it_is_parsed() -> None:
    guarded = guard(lambda *_: pytest.fail("it was parsed"), max_bytes=10)
    with pytest.raises(RefusedRequest, match="found 11 bytes, expected at most 10"):
        guarded(b"x" * 11, "application/json", MODEL, None)


@pytest.mark.parametrize("error", [MlflowException("data: UklG"), KeyError("UklG"), RecursionError("UklG")])
def test_any_error_becomes_one_sentence_without_the_data(error: Exception, caplog) -> None:
    def invocations(*_: object) -> None:
        raise error

    with pytest.raises(RefusedRequest, match="does not fit the signature") as caught:
        guard(invocations, max_bytes=10)(b"{}", "application/json", MODEL, None)
    assert "UklG" not in caught.value.serialize_as_json() + caplog.text
    assert type(error).__name__ in caplog.text


def test_request_without_a_content_type_is_read_as_json() -> None:
    guarded = guard(lambda data, content_type, *_: answer(content_type), max_bytes=10)
    assert guarded(b"{}", None, MODEL, None).response == "application/json"


def test_parameter_that_the_signature_does_not_have_is_refused_and_not_quoted() -> None:
    schema = ParamSchema([ParamSpec("spoof_prior", DataType.double, 0.05)])
    model = SimpleNamespace(
        metadata=SimpleNamespace(get_params_schema=lambda: schema), predict=lambda data, params: params
    )
    guarded = guard(
        lambda data, kind, served, schema: answer(served.predict(data, params=data["params"])), max_bytes=100
    )
    assert guarded(b'{"params": {"spoof_prior": 0.5}}', "", model, None).response == {"spoof_prior": 0.5}
    with pytest.raises(RefusedRequest, match="expected some of spoof_prior") as caught:
        guarded(b'{"params": {"UklG": 0.5}}', "", model, None)
    assert "UklG" not in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"audio": "UklG"}, {"audio": "UklG", "curve": True}]},
        {"dataframe_split": {"columns": ["audio", "curve"], "data": [["UklG", True]]}},
        {"instances": [{"audio": "UklG", "curve": True}]},
        {"inputs": [{"audio": "UklG", "curve": True}]},
        {"inputs": {"audio": ["UklG"], "curve": [True]}},
    ],
)
def test_parameter_in_a_row_is_refused_in_every_form_since_mlflow_would_leave_it_out(body: Any) -> None:
    signature = make_signature(is_calibrated=False)
    model = SimpleNamespace(
        metadata=SimpleNamespace(get_params_schema=lambda: signature.params),
        predict=lambda data, params: pytest.fail("it was answered"),
    )
    guarded = guard(inspect.unwrap(scoring_server.invocations), max_bytes=1_000)
    with pytest.raises(RefusedRequest, match=r"rows: found curve, expected .*params") as caught:
        guarded(json.dumps(body).encode(), None, model, signature.inputs)
    assert "UklG" not in caught.value.message


@pytest.mark.parametrize("kind", [None, "", "application/json", "application/json; charset=utf-8"])
@pytest.mark.parametrize("extra", ["param", "spoof_prior", "Params"])
def test_key_that_the_server_would_leave_out_is_refused_by_name(kind: str | None, extra: str) -> None:
    guarded = guard(lambda *_: pytest.fail("it was answered"), max_bytes=100)
    body = json.dumps({"dataframe_records": [], extra: 0.5}).encode()
    with pytest.raises(RefusedRequest, match=f"found '{extra}' ") as caught:
        guarded(body, kind, MODEL, None)
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize("key", ["UklG" * 8, "UklG\n", "UklG=="])
def test_key_that_may_be_a_recording_is_not_quoted(key: str) -> None:
    with pytest.raises(RefusedRequest, match="found a key ") as caught:
        guard(answer, max_bytes=100)(json.dumps({key: 1}).encode(), None, MODEL, None)
    assert "UklG" not in caught.value.message


@pytest.mark.parametrize("format", ["dataframe_records", "dataframe_split", "instances", "inputs"])
def test_every_input_format_reaches_the_server_parsed(format: str) -> None:
    guarded = guard(lambda data, *_: answer(data), max_bytes=100)
    body = {format: [1], "params": {}}
    assert guarded(json.dumps(body).encode(), None, MODEL, None).response == body


@pytest.mark.parametrize(
    "kind", ["text/UklG", "application/json; charset=latin-1", "application/json; UklG=1"]
)
def test_text_of_the_server_becomes_one_sentence_in_json(kind: str) -> None:
    invocations = inspect.unwrap(scoring_server.invocations)
    found = guard(invocations, max_bytes=100)(b'{"inputs": []}', kind, MODEL, None)
    assert (found.status, found.mimetype) == (415, "application/json")
    assert json.loads(found.response)["message"].startswith("content type: found ")
    assert "UklG" not in found.response


def test_mlflow_has_the_function_that_is_guarded_and_looks_it_up_for_each_request(monkeypatch) -> None:
    """If this fails, MLflow has changed its scoring server: `guard_server` is to follow, or to go."""
    invocations = inspect.unwrap(scoring_server.invocations)
    assert tuple(inspect.signature(invocations).parameters) == GUARDED_PARAMETERS
    assert answer("").status == 200
    # The server is made after the model was loaded, and may have been made before the guard came.
    monkeypatch.setattr(scoring_server, "invocations", invocations)
    app = scoring_server.init(SimpleNamespace(metadata=SimpleNamespace(get_input_schema=lambda: None)))
    guard_server(max_bytes=1)
    start, *parts = asyncio.run(post(app, b"{}"))
    assert start["status"] == 400
    assert b"found 2 bytes, expected at most 1" in b"".join(part.get("body", b"") for part in parts)


def test_server_that_has_changed_is_left_to_answer_as_mlflow_does(monkeypatch, caplog) -> None:
    for changed in (lambda request: request, None):
        monkeypatch.setattr(scoring_server, "invocations", changed)
        guard_server(max_bytes=1)
        assert scoring_server.invocations is changed
    assert any(record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"1000000000000")]], ids=["chunks", "told"])
def test_a_body_without_end_is_refused_once_it_is_too_long(monkeypatch, headers: Any) -> None:
    for name in ("invocations", DECORATOR):
        monkeypatch.setattr(scoring_server, name, inspect.unwrap(getattr(scoring_server, name)))
    guard_server(max_bytes=1_000)
    app = scoring_server.init(SimpleNamespace(metadata=SimpleNamespace(get_input_schema=lambda: None)))
    num_asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_asked
        num_asked += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    start, *parts = asyncio.run(post(app, receive, headers))
    assert start["status"] == 400
    assert b"expected at most 1000" in b"".join(part.get("body", b"") for part in parts)
    assert num_asked == (0 if headers else 11)


async def post(app: Any, body: Any, headers: Any = ()) -> list[dict[str, Any]]:
    """Returns what an ASGI application sends for a request; its body whole, or what gives it part by part."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "query_string": b"",
        "headers": [*headers],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, body if callable(body) else receive, send)
    return sent


@pytest.mark.parametrize("body", [b"[" + b"[]," * 20_000 + b"1]", b"[" * 5_000 + b"]" * 5_000])
def test_lists_that_take_far_more_memory_than_the_request_are_refused(body: bytes) -> None:
    guarded = guard(lambda *_: pytest.fail("it was answered"), max_bytes=10**6)
    with pytest.raises(RefusedRequest, match="request: found"):
        guarded(body, None, MODEL, None)


@pytest.mark.parametrize("kind", ["application/vnd.apache.parquet", " application/vnd.apache.parquet; a=b"])
def test_a_table_of_which_few_bytes_stand_for_any_number_of_rows_is_not_taken(kind: str) -> None:
    with pytest.raises(RefusedRequest, match="content type"):
        guard(lambda *_: pytest.fail("it was read"), max_bytes=100)(b"PAR1", kind, MODEL, None)
