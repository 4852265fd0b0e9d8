"""The served model, loaded as a service loads it: what it takes, what it answers, and what it refuses."""

import ast
import base64
import http.client
import importlib.metadata
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import av
import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from mlflow.exceptions import MlflowException

from sls.data.audio import fit_length, read_audio
from sls.engine.calibration import save_calibration
from sls.metrics.calibration import LogisticCalibration
from sls.models.checkpoints import (
    CheckpointInfo,
    LoadedCheckpoint,
    build_countermeasure,
    load_checkpoint,
    save_checkpoint,
)
from sls.tracking.served_model import SERVING_PACKAGES, example_recording, save_served_model

NUM_SAMPLES = 8_000
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CALIBRATION = LogisticCalibration(2.0, 1.0)
BASE = ["score", "duration_used_s", "warnings", "error"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 3)
    info = CheckpointInfo(model.encoder, NUM_SAMPLES)
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors", model, info)


@pytest.fixture(scope="session")
def loaded(checkpoint) -> LoadedCheckpoint:
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def bundle(checkpoint, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    save_calibration(directory / "mine.json", CALIBRATION)
    save_served_model(directory / "model", checkpoint, directory / "mine.json")
    return directory / "model"


@pytest.fixture(scope="session")
def served(bundle):
    return mlflow.pyfunc.load_model(str(bundle))


@pytest.fixture(scope="session")
def uncalibrated(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("uncalibrated") / "model"
    save_served_model(path, checkpoint)
    return mlflow.pyfunc.load_model(str(path))


def made_speech(duration_s: float, rate_hz: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    columns = [0.3 * np.sin(2 * np.pi * (150 + 40 * n) * time_s) for n in range(channels)]
    return np.stack(columns, axis=1) + rng.normal(0, 0.02, (len(time_s), channels))


def encode(samples: np.ndarray, rate_hz: int, **form: str) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate_hz, **form)
    return content.getvalue()


def encode_by_ffmpeg(samples: np.ndarray, rate_hz: int, container: str, codec: str, form: str) -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="stereo" if samples.shape[1] == 2 else "mono")
        stream.codec_context.format = form
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T, dtype=np.float32), "fltp", stream.codec_context.layout.name
        )
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(form, stream.codec_context.layout, rate_hz)
        for piece in resampler.resample(frame):
            for packet in stream.encode(piece):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return content.getvalue()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def frame_of(*contents: bytes) -> pd.DataFrame:
    return pd.DataFrame({"audio": [base64_of(content) for content in contents]})


WAV = encode(made_speech(1.5, 16_000), 16_000, format="WAV", subtype="PCM_16")


def score_of_the_door(loaded: LoadedCheckpoint, content: bytes, tmp_path: Path) -> float:
    """The score as the score door computes it: from a file on disk, by `read_audio`."""
    path = tmp_path / "recording"
    path.write_bytes(content)
    waveform = fit_length(read_audio(path, loaded.info.sample_rate_hz), loaded.info.num_samples)
    with torch.inference_mode():
        return float(loaded.model(torch.from_numpy(waveform)[None])[0, 1])


FORMS = {
    "wav 16 kHz mono": lambda: WAV,
    "wav 8 kHz 8 bit": lambda: encode(made_speech(2, 8_000), 8_000, format="WAV", subtype="PCM_U8"),
    "wav 44.1 kHz stereo 24 bit": lambda: encode(
        made_speech(2, 44_100, 2), 44_100, format="WAV", subtype="PCM_24"
    ),
    "wav a-law": lambda: encode(made_speech(2, 8_000), 8_000, format="WAV", subtype="ALAW"),
    "wav adpcm, by PyAV alone": lambda: encode_by_ffmpeg(
        made_speech(2, 22_050), 22_050, "wav", "adpcm_swf", "s16"
    ),
    "flac 48 kHz stereo": lambda: encode(made_speech(2, 48_000, 2), 48_000, format="FLAC"),
    "mp3 44.1 kHz stereo": lambda: encode(made_speech(2, 44_100, 2), 44_100, format="MP3"),
    "mp3 with an ID3 tag": lambda: encode_by_ffmpeg(made_speech(2, 44_100, 2), 44_100, "mp3", "mp3", "fltp"),
    "ogg vorbis": lambda: encode(made_speech(2, 22_050), 22_050, format="OGG", subtype="VORBIS"),
    "ogg opus": lambda: encode(made_speech(2, 48_000), 48_000, format="OGG", subtype="OPUS"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_rate_and_channel_count_scores_as_the_score_door(
    served, loaded, tmp_path, form: str
) -> None:
    content = FORMS[form]()
    row = served.predict(frame_of(content)).iloc[0]
    assert row["error"] == ""
    assert row["score"] == pytest.approx(score_of_the_door(loaded, content, tmp_path), abs=1e-5)
    assert row["duration_used_s"] == NUM_SAMPLES / 16_000


def test_many_rows_score_as_each_alone_over_the_batches(served) -> None:
    contents = [encode(made_speech(0.5 + n / 10, 16_000, seed=n), 16_000, format="FLAC") for n in range(11)]
    together = served.predict(frame_of(*contents))
    alone = [served.predict(frame_of(content))["score"][0] for content in contents]
    assert together["score"].to_list() == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == len(alone)


def test_llr_probability_and_decision_follow_the_calibration_prior_and_costs(served) -> None:
    row = served.predict(frame_of(WAV)).iloc[0]
    assert row["llr"] == pytest.approx(2 * row["score"] + 1)
    assert row["threshold"] == pytest.approx(np.log(10 * 0.05 / 0.95))
    odds = np.exp(row["llr"]) * 0.95 / 0.05
    assert row["probability_bonafide"] == pytest.approx(odds / (1 + odds))
    assert row["decision"] == ("bonafide" if row["llr"] >= row["threshold"] else "spoof")
    wary = {"spoof_prior": 0.9, "miss_cost": 1.0, "false_alarm_cost": 1e6}
    row = served.predict(frame_of(WAV), params=wary).iloc[0]
    assert row["decision"] == "spoof"
    assert row["threshold"] == pytest.approx(np.log(1e6 * 9))
    trusting = {"spoof_prior": 1e-6, "miss_cost": 1e6, "false_alarm_cost": 1.0}
    assert served.predict(frame_of(WAV), params=trusting)["decision"][0] == "bonafide"


def test_without_a_calibration_there_is_a_score_and_no_decision(served, uncalibrated) -> None:
    answer = uncalibrated.predict(frame_of(WAV))
    assert list(answer.columns) == BASE
    assert answer["score"][0] == served.predict(frame_of(WAV))["score"][0]
    assert "llr" not in uncalibrated.metadata.signature.outputs.input_names()


def test_layer_weights_come_on_request_as_json(served, loaded) -> None:
    assert "layer_weights" not in served.predict(frame_of(WAV)).columns
    row = served.predict(frame_of(WAV), params={"layer_weights": True}).iloc[0]
    waveform = fit_length(read_audio(WAV), NUM_SAMPLES)
    with torch.inference_mode():
        expected = loaded.model.explain(torch.from_numpy(waveform)[None]).layer_weights[0]
    assert json.loads(row["layer_weights"]) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_list_of_samples_scores_as_the_file_of_them(served, rate_hz: int) -> None:
    samples = made_speech(1.5, rate_hz).astype(np.float32)
    content = encode(samples, rate_hz, format="WAV", subtype="FLOAT")
    table = pd.DataFrame({"samples": [samples[:, 0].tolist()], "sample_rate_hz": [rate_hz]})
    answer, expected = served.predict(table), served.predict(frame_of(content))
    assert answer["score"][0] == pytest.approx(expected["score"][0], abs=1e-6)
    assert answer["warnings"][0] == expected["warnings"][0] == ""


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
    with pytest.raises(MlflowException, match="found audio and samples in one row"):
        served.predict(pd.DataFrame([both]))
    with pytest.raises(MlflowException, match="columns: expected audio, or samples"):
        served.predict(pd.DataFrame({"sample_rate_hz": [16_000]}))


def test_curve_has_the_score_of_each_window_as_if_it_were_sent_alone(served) -> None:
    samples = made_speech(1.3, 16_000)
    assert "curve" not in served.predict(frame_of(WAV)).columns
    content = encode(samples, 16_000, format="WAV", subtype="FLOAT")
    row = served.predict(frame_of(content), params={"curve": True, "curve_hop_s": 0.5}).iloc[0]
    curve = json.loads(row["curve"])
    # Half a second is heard at once; the last window ends with the recording.
    assert [point["start_s"] for point in curve] == [0.0, 0.5, 0.8]
    for point in curve:
        start = round(point["start_s"] * 16_000)
        piece = encode(samples[start : start + NUM_SAMPLES], 16_000, format="WAV", subtype="FLOAT")
        assert point["score"] == pytest.approx(served.predict(frame_of(piece))["score"][0], abs=1e-5)
    assert row["score"] == curve[0]["score"]


def test_windows_of_all_curves_of_a_request_are_limited(bundle, monkeypatch) -> None:
    monkeypatch.setenv("SLS_SERVE_MAX_WINDOWS", "7")
    model = mlflow.pyfunc.load_model(str(bundle))
    params = {"curve": True, "curve_hop_s": 0.25}  # five windows for each recording of 1.5 s
    answer = model.predict(frame_of(WAV, WAV), params=params)
    assert len(json.loads(answer["curve"][0])) == 5
    assert answer["curve"][1] is None
    assert answer["error"][1] == "curve: found 5 windows, expected at most 2; raise curve_hop_s"


def test_bf16_on_request_moves_scores_a_little_and_is_refused_by_another_name(
    bundle, served, monkeypatch
) -> None:
    monkeypatch.setenv("SLS_SERVE_PRECISION", "bf16")
    half = mlflow.pyfunc.load_model(str(bundle))
    shift = abs(half.predict(frame_of(WAV))["score"][0] - served.predict(frame_of(WAV))["score"][0])
    assert 0 < shift < 0.1
    monkeypatch.setenv("SLS_SERVE_PRECISION", "tf32")
    with pytest.raises(ValueError, match="SLS_SERVE_PRECISION: found 'tf32', expected one of fp32, bf16"):
        mlflow.pyfunc.load_model(str(bundle))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (made_speech(1.5, 16_000), ""),
        (made_speech(0.2, 16_000), "short"),
        (np.clip(20 * made_speech(1.5, 16_000), -1, 1), "clipped"),
        (np.zeros((24_000, 1)), "silent"),
        (np.zeros((1_000, 1)), "short, silent"),
        # What is clipped behind the stretch that is heard does not matter.
        (np.concatenate([made_speech(1.5, 16_000), np.ones((8_000, 1))]), ""),
    ],
)
def test_warnings_say_short_clipped_and_silent(served, samples: np.ndarray, expected: str) -> None:
    content = encode(samples, 16_000, format="WAV", subtype="PCM_16")
    row = served.predict(frame_of(content)).iloc[0]
    assert row["warnings"] == expected
    assert row["duration_used_s"] == pytest.approx(min(len(samples), NUM_SAMPLES) / 16_000)
    assert np.isfinite(row["score"])


FLAC = encode(made_speech(1.5, 16_000), 16_000, format="FLAC")
BAD = {
    "not base64": ("%%% no base64 %%%", "not base64"),
    "beyond ascii": ("ünïcödé", "not base64"),
    "empty": ("", "found nothing"),
    "blank": ("  \n", "found nothing"),
    "text": (base64_of(b"To whom it may concern: this is a letter. " * 9), "not a WAV, FLAC, MP3 or OGG"),
    "a path": (base64_of(b"/etc/passwd"), "not a WAV, FLAC, MP3 or OGG"),
    "a path, bare": ("/etc/passwd", "not base64"),
    "an address": (base64_of(b"http://127.0.0.1/a.wav"), "not a WAV, FLAC, MP3 or OGG"),
    "cut wav": (base64_of(WAV[: len(WAV) // 2]), "ends after"),
    "cut flac": (base64_of(FLAC[: len(FLAC) // 2]), "FLAC file that cannot be decoded"),
    "wav header alone": (base64_of(WAV[:44]), "ends after"),
    "wav without samples": (base64_of(encode(np.zeros((0, 1)), 16_000, format="WAV")), "without samples"),
    "mp3 noise": (base64_of(b"\xff\xfb" + bytes(range(256)) * 4), "MP3 file"),
    "nan": (
        base64_of(encode(np.full((9_000, 1), np.nan), 16_000, format="WAV", subtype="FLOAT")),
        "NaN or infinite",
    ),
    "absurd rate": (base64_of(encode(np.zeros((9_000, 1)), 10, format="WAV")), "rate of 10 Hz"),
    "many channels": (base64_of(encode(np.zeros((9_000, 20)), 16_000, format="WAV")), "20 channels"),
}


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
    with pytest.raises(
        MlflowException, match="none of 2 recordings can be used; the first: audio: not base64"
    ):
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


def test_threads_get_the_scores_of_one_after_the_other(served) -> None:
    contents = [encode(made_speech(1, 16_000, seed=n), 16_000, format="FLAC") for n in range(6)]
    frames = [frame_of(content) for content in contents] * 4
    expected = [served.predict(frame)["score"][0] for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda frame: served.predict(frame)["score"][0], frames))
    assert found == pytest.approx(expected, abs=1e-5)


def test_bundle_has_a_signature_with_params_and_an_example_that_it_can_answer(bundle, served) -> None:
    signature = served.metadata.signature
    assert signature.inputs.input_names() == ["audio", "samples", "sample_rate_hz"]
    params = {spec.name: spec.default for spec in signature.params.params}
    assert params == {
        "spoof_prior": 0.05,
        "miss_cost": 1.0,
        "false_alarm_cost": 10.0,
        "layer_weights": False,
        "curve": False,
        "curve_hop_s": 2.0,
    }
    example = served.input_example
    assert example["audio"][0] == example_recording()
    answer = served.predict(example)
    assert answer["warnings"][0] == "short"
    assert set(answer.columns) <= set(signature.outputs.input_names())


@pytest.mark.slow
def test_requirements_are_what_the_loaded_code_imports_and_no_more(bundle) -> None:
    """Every module of ours that serving loads, in a fresh process, and what these import at their top."""
    script = (
        "import sys, mlflow; mlflow.pyfunc.load_model(sys.argv[1]);"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'sls' and m.__file__))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [Path(line) for line in result.stdout.split() if line.endswith(".py")]
    assert all(bundle in path.parents for path in files)
    names = {name for path in [*files, bundle / "pyfunc.py"] for name in top_imports(path)}
    outside = names - set(sys.stdlib_module_names) - {"sls"}
    owners = importlib.metadata.packages_distributions()
    # mlflow is made of three packages, of which the first brings the others.
    needed = {min(owners[name]).replace("_", "-") for name in outside}
    assert needed == set(SERVING_PACKAGES)
    requirements = (bundle / "requirements.txt").read_text().split()
    assert requirements == [f"{name}=={importlib.metadata.version(name)}" for name in SERVING_PACKAGES]


def top_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def test_bundle_needs_nothing_of_the_place_where_it_was_made(checkpoint, tmp_path, monkeypatch) -> None:
    made = tmp_path / "made"
    made.mkdir()
    shutil.copyfile(checkpoint, made / "tiny.safetensors")
    save_calibration(made / "mine.json", CALIBRATION)
    save_served_model(made / "model", made / "tiny.safetensors", made / "mine.json")
    (made / "model").rename(tmp_path / "moved")
    shutil.rmtree(made)
    monkeypatch.chdir(tmp_path)
    answer = mlflow.pyfunc.load_model("moved").predict(frame_of(WAV))
    assert answer["llr"][0] == pytest.approx(2 * answer["score"][0] + 1)


def post(port: int, body: object) -> tuple[int, str]:
    return send(port, json.dumps(body).encode(), "application/json")


def send(port: int, body: bytes, content_type: str | None) -> tuple[int, str]:
    # Of http.client, since urllib adds a type of its own.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request("POST", "/invocations", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def port(bundle, tmp_path_factory) -> Iterator[int]:
    with running_server(bundle, tmp_path_factory.mktemp("server")) as number:
        yield number


@contextmanager
def running_server(bundle: Path, directory: Path) -> Iterator[int]:
    """A real server, on loopback, started elsewhere than in the project; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    command = ["mlflow", "models", "serve", "-m", str(bundle), "--env-manager", "local", "-h", "127.0.0.1"]
    with (directory / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "-p", str(number)],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_healthy(number, process, directory / "log.txt")
        yield number
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def wait_until_healthy(number: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{number}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.mark.slow
def test_server_answers_with_the_scores_of_predict(port: int, served) -> None:
    contents = [FORMS[name]() for name in ("wav 16 kHz mono", "mp3 44.1 kHz stereo", "ogg vorbis")]
    values = [base64_of(content) for content in contents]
    expected = served.predict(frame_of(*contents))
    bodies = {
        "records": {"dataframe_records": [{"audio": value} for value in values]},
        "split": {"dataframe_split": {"columns": ["audio"], "data": [[value] for value in values]}},
        "inputs": {"inputs": {"audio": values}},
    }
    for body in bodies.values():
        status, text = post(port, {**body, "params": {"spoof_prior": 0.5, "layer_weights": True}})
        assert status == 200, text
        rows = json.loads(text)["predictions"]
        assert [row["score"] for row in rows] == pytest.approx(expected["score"].to_list(), abs=1e-5)
        assert [row["error"] for row in rows] == ["", "", ""]
        assert len(json.loads(rows[0]["layer_weights"])) > 1
        assert rows[0]["threshold"] == pytest.approx(np.log(10))


@pytest.mark.slow
def test_server_refuses_with_400_and_a_sentence_and_no_traceback(port: int, served) -> None:
    for name, (value, reason) in BAD.items():
        status, text = post(port, {"dataframe_records": [{"audio": value}]})
        assert status == 400, (name, text)
        assert reason in json.loads(text)["message"]
        assert "Traceback" not in text
        assert "stack_trace" not in text
        assert len(text) < 300
    status, text = post(
        port, {"dataframe_records": [{"audio": base64_of(WAV)}], "params": {"spoof_prior": 2}}
    )
    assert status == 400
    assert "UklG" not in text
    status, text = post(port, {"dataframe_records": [{"audio": base64_of(WAV)}, {"audio": "%"}]})
    assert status == 200
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["predictions"]
    assert rows[0]["score"] == pytest.approx(served.predict(frame_of(WAV))["score"][0], abs=1e-5)
    assert rows[1]["score"] is None
    assert rows[1]["error"] == "audio: not base64"


@pytest.mark.slow
def test_server_refuses_broken_requests_without_a_traceback_and_without_an_echo(port: int) -> None:
    audio = base64_of(WAV)
    good = {"dataframe_records": [{"audio": audio}]}
    requests = {
        "no JSON": (b'{"dataframe_records": "' + audio.encode(), "application/json"),
        "not UTF-8": (b"\xff\xfe" + audio.encode(), "application/json"),
        "a list": (json.dumps([audio]).encode(), "application/json"),
        "another key": (json.dumps({"rows": [audio]}).encode(), "application/json"),
        "no table": (json.dumps({"dataframe_split": {"data": audio}}).encode(), "application/json"),
        "another column": (json.dumps({"dataframe_records": [{"wav": audio}]}).encode(), "application/json"),
        "wrong parameter": (
            json.dumps({**good, "params": {"spoof_prior": "high"}}).encode(),
            "application/json",
        ),
        "params no table": (json.dumps({**good, "params": audio}).encode(), "application/json"),
        "broken parquet": (WAV, "application/vnd.apache.parquet"),
        "broken csv": (b'audio,b\n"' + audio.encode(), "text/csv"),
        "no type, no JSON": (audio.encode(), None),
    }
    for name, (body, content_type) in requests.items():
        status, text = send(port, body, content_type)
        assert status == 400, (name, text)
        assert "Traceback" not in text, name
        assert "stack_trace" not in text, name
        assert audio[:12] not in text, name
        assert len(text) < 300, name
        assert "\n" not in json.loads(text)["message"], name


@pytest.mark.slow
def test_server_takes_json_without_a_content_type(port: int, served) -> None:
    status, text = send(port, json.dumps({"dataframe_records": [{"audio": base64_of(WAV)}]}).encode(), None)
    assert status == 200
    expected = served.predict(frame_of(WAV))["score"][0]
    assert json.loads(text)["predictions"][0]["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_example_clients_print_the_scores_of_predict(port: int, served, tmp_path) -> None:
    path, letter = tmp_path / "speech.flac", tmp_path / "letter.txt"
    path.write_bytes(FLAC)
    letter.write_bytes(b"To whom it may concern")
    expected = served.predict(frame_of(FLAC))["score"][0]
    address = f"http://127.0.0.1:{port}"
    python = [sys.executable, str(EXAMPLES / "client.py"), address]
    curl = ["sh", str(EXAMPLES / "client.sh"), address]
    answers = {}
    for name, command in (("python", python), ("curl", curl)):
        result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
        answers[name] = json.loads(result.stdout)
        refused = subprocess.run([*command, str(letter)], capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "not a WAV, FLAC, MP3 or OGG file" in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr
    assert answers["python"]["score"] == pytest.approx(expected, abs=1e-5)
    assert json.loads(answers["python"]["curve"])[0]["start_s"] == 0
    assert answers["curl"]["predictions"][0]["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_server_answers_clients_at_once_with_the_scores_of_one(port: int, served) -> None:
    body = {"dataframe_records": [{"audio": base64_of(FLAC)}]}
    expected = served.predict(frame_of(FLAC))["score"][0]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(port, body), range(18)))
    assert {status for status, _ in answers} == {200}
    for _, text in answers:
        assert json.loads(text)["predictions"][0]["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_server_answers_with_the_golden_scores(reference_dir: Path, tmp_path: Path) -> None:
    golden = reference_dir / "golden"
    published = load_checkpoint(golden / "sls_tiny_epoch_0.pth", xlsr=golden / "xlsr_tiny.pt")
    checkpoint = save_checkpoint(tmp_path / "golden.safetensors", published.model, published.info)
    save_served_model(tmp_path / "model", checkpoint)
    values = np.load(golden / "sls_tiny_eval.npz")
    contents = [encode(row[:, None], 16_000, format="WAV", subtype="FLOAT") for row in values["waveforms"]]
    rows = [{"audio": base64_of(content)} for content in contents]
    rows += [{"samples": row.tolist(), "sample_rate_hz": 16_000} for row in values["waveforms"]]
    with running_server(tmp_path / "model", tmp_path) as number:
        status, text = post(number, {"dataframe_records": rows})
    assert status == 200, text
    found = [row["score"] for row in json.loads(text)["predictions"]]
    assert found == pytest.approx([*values["log_probs"][:, 1].tolist()] * 2, abs=1e-5)
