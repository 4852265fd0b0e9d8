"""What is served decides as the report says: recordings of the demo corpus, row by row, over HTTP."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.model_server import running_server
from entrypoints.evaluate import evaluate
from entrypoints.operating_point import operating_point
from entrypoints.score import score
from sls.config import DataConfig
from sls.data.corpora.corpus import open_corpus
from sls.data.loading.trial_lists import track_trials
from sls.data.tables.score_files import JoinedScores, join_scores, read_scores
from sls.metrics.calibration import calibration_from_dict
from sls.models.checkpoints import load_checkpoint, save_checkpoint
from sls.serving.bundle import save_served_model
from tests.entrypoints.test_evaluate_and_compare import newest_run
from tests.servers import post
from tests.serving.uploads import base64_of

pytestmark = pytest.mark.slow


def call(door, corpus: Path, **options: object) -> None:
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = CliRunner().invoke(door, [*words, "--data_root", str(corpus)])
    assert done.exit_code == 0, done.output


def score_tracks(checkpoint: Path, corpus: Path, directory: Path) -> Mapping[str, JoinedScores]:
    tracks, found = open_corpus(DataConfig(data_root=str(corpus))), {}
    for track in ("dev", "LA"):
        output = directory / f"{track}.txt"
        call(score, corpus, model=checkpoint, track=track, output=output, device="cpu", num_workers=0)
        found[track] = join_scores(read_scores(output), tracks.track(track).key(corpus))
    return found


@pytest.fixture
def checkpoint(checkpoint: Path, small_corpus: Path, store, tmp_path: Path) -> Path:
    """A countermeasure that nobody trained, whose bona fide scores are the higher ones on dev."""
    joined = score_tracks(checkpoint, small_corpus, tmp_path)["dev"]
    if joined.scores[joined.is_bonafide].mean() > joined.scores[~joined.is_bonafide].mean():
        return checkpoint
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        for parameter in loaded.model.fc3.parameters():
            parameter.copy_(parameter.flip(0))
    return save_checkpoint(tmp_path / "turned.safetensors", loaded.model, replace(loaded.info))


def test_verdicts_over_http_are_the_decisions_of_the_report(
    checkpoint, small_corpus, store, tmp_path: Path
) -> None:
    directory = tmp_path / "scores"
    directory.mkdir()
    joined = score_tracks(checkpoint, small_corpus, directory)
    call(evaluate, small_corpus, track="dev", scores=directory / "dev.txt", fit_calibration="logistic")
    place = mlflow.artifacts.download_artifacts(
        f"runs:/{newest_run('evaluate').info.run_id}/calibration.json"
    )
    calibration = calibration_from_dict(json.loads(Path(place).read_text()))
    # A prior between two recordings in the middle, so that some are accepted and some are not.
    llrs = np.sort(calibration.apply(joined["LA"].scores))
    middle = len(llrs) // 4 + int(np.argmax(np.diff(llrs[len(llrs) // 4 : -len(llrs) // 4])))
    threshold = float(llrs[middle : middle + 2].mean())
    costs = {"spoof_prior": float(1 / (1 + np.exp(-threshold))), "miss_cost": 1.0, "false_alarm_cost": 1.0}
    scores = ",".join(f"{track}={directory / track}.txt" for track in joined)
    call(operating_point, small_corpus, track="dev,LA", scores=scores, subset="all", **costs)
    report = json.loads(
        mlflow.artifacts.load_text(f"runs:/{newest_run('operating_point').info.run_id}/report/report.json")
    )
    (transfer,) = (
        item
        for item in report["matrices"][0]["transfers"]
        if (item["source"], item["target"], item["method"]) == ("dev", "LA", "logistic")
    )
    told = {item["name"]: item["value"] for item in transfer["measures"]}

    save_served_model(tmp_path / "bundle", checkpoint, Path(place))
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    paths = {trial.name: trial.path for trial in track_trials(corpus, "LA").trials}
    names = joined["LA"].key.names.tolist()
    rows = [{"audio": base64_of(paths[name].read_bytes())} for name in names]
    (tmp_path / "server").mkdir()
    with running_server(tmp_path / "bundle", tmp_path / "server", OMP_NUM_THREADS="1") as server:
        status, text = post(server.port, {"dataframe_records": rows[:64], "params": costs})
    assert status == 200, text
    answers = json.loads(text)["predictions"]
    served = np.array([row["decision"] == "bonafide" for row in answers])
    expected = calibration.apply(joined["LA"].scores) >= threshold
    assert {bool(decision) for decision in served} == {True, False}
    assert served.tolist() == expected[: len(served)].tolist()
    is_bonafide = joined["LA"].is_bonafide
    assert told["miss"] == pytest.approx(np.mean(~expected[is_bonafide]))
    assert told["false_alarm"] == pytest.approx(np.mean(expected[~is_bonafide]))
    for row in answers:
        assert row["llr_threshold"] == pytest.approx(threshold)
        assert row["calibration"].startswith("logistic, fitted on dev (synthetic demo corpus)")
