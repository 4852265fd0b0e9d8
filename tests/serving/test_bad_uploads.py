"""Tests of `answers` and `contract`: refusals in one sentence, without an echo, and row by row."""

import io
import json
import socket
import time

import av
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from tests.serving.uploads import BAD, FLAC, WAV, base64_of, encode, frame_of, made_speech

BAD_SAMPLES = {
    "a string": ("0.1, 0.2", 16_000, "expected a list of numbers"),
    "empty": ([], 16_000, "found no samples"),
    "nested": ([[0.1], [0.2]], 16_000, "expected a list of numbers"),
    "ragged": ([[0.1], [0.2, 0.3]], 16_000, "several lengths"),
    "words": (["a", "b"], 16_000, "something else than numbers"),
    "digits in quotes": (["0.1", "0.2"], 16_000, "something else than numbers"),
    "a gap": ([0.1, None], 16_000, "something else than numbers"),
    "truths": ([True, False], 16_000, "something else than numbers"),
    "not a number": ([0.1, float("nan")], 16_000, "NaN or infinite"),
    "infinite": ([0.1, float("inf")], 16_000, "NaN or infinite"),
    "16-bit integers": ([0, 12_000, -9_000], 16_000, "peak of 12000"),
    "no rate": ([0.1, 0.2], None, "found no sample_rate_hz"),
    "rate in quotes": ([0.1, 0.2], "16000", "found no sample_rate_hz"),
    "rate NaN": ([0.1, 0.2], float("nan"), "found no sample_rate_hz"),
    "rate zero": ([0.1, 0.2], 0, "rate of 0 Hz"),
    "too long": ([0.1] * 301_000, 1_000, "more than 300 s"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_bad_list_of_samples_is_refused_in_one_sentence_and_leaves_the_other_rows(served, name: str) -> None:
    samples, rate_hz, reason = BAD_SAMPLES[name]
    bad = {"samples": samples, "sample_rate_hz": rate_hz}
    with pytest.raises(MlflowException, match=f"samples: .*{reason}") as caught:
        served.predict(pd.DataFrame([bad]))
    assert caught.value.get_http_status_code() == 400
    assert len(caught.value.message) < 120
    answer = served.predict(pd.DataFrame([{"audio": base64_of(WAV)}, bad]))
    assert answer["score"][0] == pytest.approx(served.predict(frame_of(WAV))["score"][0], abs=1e-6)
    assert reason in answer["error"][1]


def test_row_brings_a_file_or_samples_and_not_both(served) -> None:
    both = {"audio": base64_of(WAV), "samples": [0.1, 0.2], "sample_rate_hz": 16_000}
    with pytest.raises(MlflowException, match="found audio and samples"):
        served.predict(pd.DataFrame([both]))
    with pytest.raises(MlflowException, match="columns: expected audio.*samples"):
        served.predict(pd.DataFrame({"sample_rate_hz": [16_000]}))


@pytest.mark.parametrize("name", BAD)
def test_bad_recording_is_refused_in_one_sentence_without_an_echo(served, name: str) -> None:
    value, reason = BAD[name]
    with pytest.raises(MlflowException) as caught:
        served.predict(pd.DataFrame({"audio": [value]}))
    assert caught.value.get_http_status_code() == 400
    message = caught.value.message
    assert reason in message
    assert "\n" not in message
    assert len(message) < 120
    assert value.strip() == "" or value[:12] not in message


def test_one_bad_row_leaves_the_others_as_they_are(served) -> None:
    values = [base64_of(WAV), BAD["text"][0], None, base64_of(FLAC), ""]
    answer = served.predict(pd.DataFrame({"audio": values}))
    alone = served.predict(frame_of(WAV, FLAC))
    assert [bool(error) for error in answer["error"]] == [False, True, True, False, True]
    assert [answer["score"][0], answer["score"][3]] == pytest.approx(alone["score"].to_list(), abs=1e-6)
    for name in ("score", "llr", "decision", "duration_used_s"):
        assert answer[name][1] is None
    # The server's JSON has no NaN.
    json.dumps(answer.to_dict("records"), allow_nan=False)


def test_request_with_bad_rows_alone_is_refused_with_the_first_reason(served) -> None:
    with pytest.raises(MlflowException, match="none of 2 recordings.*audio: not base64"):
        served.predict(pd.DataFrame({"audio": ["%", ""]}))


@pytest.mark.parametrize("count", [0, 65])
def test_number_of_rows_is_limited(served, count: int) -> None:
    with pytest.raises(MlflowException, match=f"found {count} rows, expected 1 to 64"):
        served.predict(pd.DataFrame({"audio": pd.Series([base64_of(WAV)] * count, dtype=str)}))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"spoof_prior": 0.0}, "spoof_prior: found 0"),
        ({"spoof_prior": float("nan")}, "spoof_prior: found nan"),
        ({"miss_cost": -1.0}, "expected positive costs"),
        ({"curve_hop_s": 0.0}, "curve_hop_s: found 0"),
        ({"false_alarm_cost": float("inf")}, "false_alarm_cost: found inf"),
    ],
)
def test_impossible_prior_or_cost_is_refused(served, params: dict[str, float], message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        served.predict(frame_of(WAV), params=params)
    assert caught.value.get_http_status_code() == 400


def test_size_and_duration_are_limited_before_they_cost_memory(bundle, monkeypatch) -> None:
    monkeypatch.setenv("SLS_SERVE_MAX_BYTES", "60000")
    monkeypatch.setenv("SLS_SERVE_MAX_DURATION_S", "60")
    monkeypatch.setenv("SLS_SERVE_MAX_ROWS", "3")
    small = mlflow.pyfunc.load_model(str(bundle))
    hour = encode(np.zeros((3_600 * 1_000, 1)), 1_000, format="FLAC")
    large = encode(made_speech(2, 16_000), 16_000, format="WAV")
    for content, message in ((hour, "more than 60 s"), (large, "expected at most 60000")):
        with pytest.raises(MlflowException, match=message):
            small.predict(frame_of(content))
    with pytest.raises(MlflowException, match="found 4 rows, expected 1 to 3"):
        small.predict(frame_of(WAV, WAV, WAV, WAV))


def test_limit_that_is_no_number_is_named_when_the_service_starts(bundle, monkeypatch) -> None:
    monkeypatch.setenv("SLS_SERVE_MAX_ROWS", "many")
    with pytest.raises(ValueError, match="SLS_SERVE_MAX_ROWS: found 'many'"):
        mlflow.pyfunc.load_model(str(bundle))


def test_no_input_makes_it_open_a_file_or_a_socket(served, tmp_path, monkeypatch) -> None:
    """FFmpeg would follow these if it were left to guess the format; PyAV alone opens the first one."""
    (tmp_path / "secret.wav").write_bytes(WAV)
    monkeypatch.chdir(tmp_path)
    concat = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(concat)) as file:
        assert file.format.name == "concat"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.wav\n#EXT-X-ENDLIST\n".encode()
        session = b"\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n" + b" \n" * 200
        id3 = b"ID3\x03\x00\x00\x00\x00\x00\x00"
        start = time.monotonic()
        for content in (
            concat,
            id3 + concat,
            hls,
            id3 + hls,
            b"\xff\xfb" + session,
            id3 + b"\xff\xfb" + session,
        ):
            with pytest.raises(MlflowException, match="audio: "):
                served.predict(frame_of(content))
        # A socket that waits for an RTP stream would take 10 s.
        assert time.monotonic() - start < 5
        with pytest.raises(TimeoutError):
            listener.accept()
