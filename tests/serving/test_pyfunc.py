"""Tests of `pyfunc`, `answers` and `contract`: the model as a service loads it, what it takes and what it answers."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from sls.data.audio.recording import read_audio
from sls.data.audio.windows import fit_length
from sls.metrics.calibration import LogisticCalibration
from sls.models.checkpoints import LoadedCheckpoint
from sls.serving.answers import Answerer
from sls.serving.contract import ServingLimits, read_params
from tests.serving.uploads import FORMS, NUM_SAMPLES, WAV, encode, frame_of, made_speech
from tests.vnni import needs_vnni

BASE = ["score", "duration_used_s", "warnings", "error"]


def score_of_the_door(loaded: LoadedCheckpoint, content: bytes, tmp_path: Path) -> float:
    """The score as the score door computes it: from a file on disk, by `read_audio`."""
    path = tmp_path / "recording"
    path.write_bytes(content)
    waveform = fit_length(read_audio(path, loaded.info.sample_rate_hz), loaded.info.num_samples)
    with torch.inference_mode():
        return float(loaded.model(torch.from_numpy(waveform)[None])[0, 1])


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
    assert row["llr_threshold"] == pytest.approx(np.log(10 * 0.05 / 0.95))
    odds = np.exp(row["llr"]) * 0.95 / 0.05
    assert row["probability_bonafide"] == pytest.approx(odds / (1 + odds))
    assert row["decision"] == ("bonafide" if row["llr"] >= row["llr_threshold"] else "spoof")
    wary = {"spoof_prior": 0.9, "miss_cost": 1.0, "false_alarm_cost": 1e6}
    row = served.predict(frame_of(WAV), params=wary).iloc[0]
    assert row["decision"] == "spoof"
    assert row["llr_threshold"] == pytest.approx(np.log(1e6 * 9))
    trusting = {"spoof_prior": 1e-6, "miss_cost": 1e6, "false_alarm_cost": 1.0}
    assert served.predict(frame_of(WAV), params=trusting)["decision"][0] == "bonafide"


def test_a_score_outside_those_of_the_calibration_is_said_to_be_so(loaded) -> None:
    score = float(
        Answerer(loaded, None, ServingLimits()).answer(frame_of(WAV), read_params(None))["score"][0]
    )
    for ends, warned in (((score - 1, score + 1), ""), ((score + 1, score + 2), "outside")):
        calibration = LogisticCalibration(2.0, 1.0, ends, "dev (2 bona fide and 3 spoofed trials)")
        row = Answerer(loaded, calibration, ServingLimits()).answer(frame_of(WAV), read_params(None)).iloc[0]
        assert row["warnings"] == warned
        assert row["llr"] == pytest.approx(2 * row["score"] + 1)
        assert row["calibration"].startswith("logistic, fitted on dev (2 bona fide and 3 spoofed trials)")
        assert f"{ends[1]:.6g}" in row["calibration"]


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
    assert re.fullmatch(r"curve: found 5 windows, expected .*\b2\b.*curve_hop_s", answer["error"][1])


@pytest.mark.parametrize("precision", ["bf16", pytest.param("int8", marks=needs_vnni)])
def test_another_precision_on_request_moves_scores_a_little(bundle, served, monkeypatch, precision) -> None:
    monkeypatch.setenv("SLS_SERVE_PRECISION", precision)
    other = mlflow.pyfunc.load_model(str(bundle))
    shift = abs(other.predict(frame_of(WAV))["score"][0] - served.predict(frame_of(WAV))["score"][0])
    assert 0 < shift < 0.1


def test_a_precision_that_is_not_served_is_refused(bundle, monkeypatch) -> None:
    monkeypatch.setenv("SLS_SERVE_PRECISION", "tf32")
    with pytest.raises(ValueError, match="SLS_SERVE_PRECISION: found 'tf32', .*fp32, bf16, int8"):
        mlflow.pyfunc.load_model(str(bundle))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (made_speech(1.5, 16_000), ""),
        (made_speech(0.2, 16_000), "short"),
        (np.clip(20 * made_speech(1.5, 16_000), -1, 1), "clipped"),
        (np.zeros((24_000, 1)), "silent"),
        (np.zeros((1_000, 1)), "short, silent"),
        (made_speech(1.5, 16_000) * [[1.0, -1.0]], "cancelled, silent"),
        # What is clipped behind the stretch that is heard does not matter.
        (np.concatenate([made_speech(1.5, 16_000), np.ones((8_000, 1))]), ""),
    ],
)
def test_warnings_judge_what_is_heard(served, samples: np.ndarray, expected: str) -> None:
    content = encode(samples, 16_000, format="WAV", subtype="PCM_16")
    row = served.predict(frame_of(content)).iloc[0]
    assert row["warnings"] == expected
    assert row["duration_used_s"] == pytest.approx(min(len(samples), NUM_SAMPLES) / 16_000)
    assert np.isfinite(row["score"])


def test_threads_get_the_scores_of_one_after_the_other(served) -> None:
    contents = [encode(made_speech(1, 16_000, seed=n), 16_000, format="FLAC") for n in range(6)]
    frames = [frame_of(content) for content in contents] * 4
    expected = [served.predict(frame)["score"][0] for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda frame: served.predict(frame)["score"][0], frames))
    assert found == pytest.approx(expected, abs=1e-5)
