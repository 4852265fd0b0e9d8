"""Refusals: what MLflow's scoring server would say by itself, in one sentence."""

import json
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.types import DataType, ParamSchema, ParamSpec

from sls.tracking.refusals import RefusedRequest, guard


def test_message_stays_as_it_was_written_and_is_answered_with_400() -> None:
    error = RefusedRequest("audio: not base64")
    error.message = f"Failed to predict data 'UklG'. \nError: {error.message}"
    assert error.message == "audio: not base64"
    assert json.loads(error.serialize_as_json())["message"] == "audio: not base64"
    assert error.get_http_status_code() == 400


def test_long_request_is_refused_before_it_is_parsed() -> None:
    guarded = guard(lambda *_: pytest.fail("it was parsed"), max_bytes=10)
    with pytest.raises(RefusedRequest, match="found 11 bytes, expected at most 10"):
        guarded(b"x" * 11, "application/json", None, None)


@pytest.mark.parametrize("error", [MlflowException("data: UklG"), KeyError("UklG"), RecursionError("UklG")])
def test_any_error_becomes_one_sentence_without_the_data(error: Exception, caplog) -> None:
    def invocations(*_: object) -> None:
        raise error

    with pytest.raises(RefusedRequest, match="does not fit the signature") as caught:
        guard(invocations, max_bytes=10)(b"{}", "application/json", None, None)
    assert "UklG" not in caught.value.serialize_as_json() + caplog.text
    assert type(error).__name__ in caplog.text


def test_request_without_a_content_type_is_read_as_json() -> None:
    guarded = guard(lambda data, content_type, *_: content_type, max_bytes=10)
    assert guarded(b"{}", None, None, None) == "application/json"


def test_parameter_that_the_signature_does_not_have_is_refused_and_not_quoted() -> None:
    schema = ParamSchema([ParamSpec("spoof_prior", DataType.double, 0.05)])
    model = SimpleNamespace(
        metadata=SimpleNamespace(get_params_schema=lambda: schema), predict=lambda data, params: params
    )
    guarded = guard(
        lambda data, kind, served, schema: served.predict(data, params=json.loads(data)), max_bytes=100
    )
    assert guarded(b'{"spoof_prior": 0.5}', "", model, None) == {"spoof_prior": 0.5}
    with pytest.raises(RefusedRequest, match="expected some of spoof_prior") as caught:
        guarded(b'{"UklG": 0.5}', "", model, None)
    assert "UklG" not in caught.value.message
