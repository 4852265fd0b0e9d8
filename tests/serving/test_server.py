"""The served model behind a real server on loopback."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.model_server import running_server
from sls.models.checkpoints import (
    load_checkpoint,
    save_checkpoint,
)
from sls.serving.bundle import save_served_model
from tests.servers import post, send
from tests.serving.uploads import BAD, FLAC, FORMS, WAV, base64_of, encode, frame_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def port(bundle, tmp_path_factory) -> Iterator[int]:
    with running_server(bundle, tmp_path_factory.mktemp("server"), OMP_NUM_THREADS="1") as server:
        yield server.port


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
        assert rows[0]["llr_threshold"] == pytest.approx(np.log(10))


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
        "unknown parameter": (
            json.dumps({**good, "params": {"spoof_priors": 0.5}}).encode(),
            "application/json",
        ),
        "audio as a parameter": (json.dumps({**good, "params": {audio: 1}}).encode(), "application/json"),
        "parameter beside the input": (json.dumps({**good, "spoof_prior": 0.5}).encode(), "application/json"),
        "parameters misspelt": (
            json.dumps({**good, "param": {"spoof_prior": 0.5}}).encode(),
            "application/json",
        ),
        "audio as a key": (json.dumps({**good, audio: 1}).encode(), "application/json"),
        "no rows": (json.dumps({"dataframe_records": []}).encode(), "application/json"),
        "nothing": (b"", "application/json"),
        "deep": (b"[" * 100_000 + b"]" * 100_000, "application/json"),
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
    for content_type in ("text/plain", f"text/{audio[:99]}", "application/json; charset=latin-1"):
        status, text = send(port, json.dumps(good).encode(), content_type)
        assert status == 415
        assert json.loads(text)["message"].startswith("content type: found ")
        assert audio[:12] not in text


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
        assert re.search("WAV, FLAC, MP3.*OGG", refused.stdout + refused.stderr)
        assert "Traceback" not in refused.stderr
    assert answers["python"]["score"] == pytest.approx(expected, abs=1e-5)
    assert json.loads(answers["python"]["curve"])[0]["start_s"] == 0
    assert answers["curl"]["predictions"][0]["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_server_answers_16_clients_at_once_with_the_scores_of_one(port: int, served) -> None:
    """Some with several rows, and some with nothing but a bad one, which costs the others nothing."""
    expected = served.predict(frame_of(FLAC))["score"][0]

    def ask(index: int) -> bool:
        values = [base64_of(FLAC)] * (index % 4) or ["%"]
        status, text = post(port, {"dataframe_records": [{"audio": value} for value in values]})
        if values == ["%"]:
            return status == 400
        scores = [row["score"] for row in json.loads(text)["predictions"]]
        return status == 200 and scores == pytest.approx([expected] * len(values), abs=1e-5)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))


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
    with running_server(tmp_path / "model", tmp_path, OMP_NUM_THREADS="1") as server:
        status, text = post(server.port, {"dataframe_records": rows})
    assert status == 200, text
    found = [row["score"] for row in json.loads(text)["predictions"]]
    assert found == pytest.approx([*values["log_probs"][:, 1].tolist()] * 2, abs=1e-5)
