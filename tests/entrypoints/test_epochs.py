"""The epochs door: every epoch of training runs on every track, each evaluated once."""

import csv
import tempfile
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow.entities import LoggedModelOutput, Run

from entrypoints.epochs import epochs
from entrypoints.train import train
from sls.config import DataConfig
from sls.data.corpus import Corpus, open_corpus
from sls.engine.evaluation import Evaluation
from sls.tracking.epochs import find_training_runs
from sls.tracking.evaluation import EvaluationRequest, ScoreSource, track_evaluation
from sls.tracking.pipeline import find_tracks
from sls.tracking.runs import TrackedRun, tracked_run
from sls.tracking.store import connect

TINY = ["--xlsr_model", "random:tiny", "--num_workers", "0", "--device", "cpu"]
CPU = ["--num_workers", "0", "--device", "cpu"]


def runs_of(kind: str) -> list[Run]:
    """Runs of a door, the newest first."""
    client = connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, f"tags.kind = '{kind}'", order_by=["attributes.start_time DESC"])


def call_epochs(small_corpus: Path, run_ids: list[str], *arguments: str) -> Result:
    words = ["--runs", ",".join(run_ids), "--data_root", str(small_corpus), *CPU, *arguments]
    return CliRunner(env={"COLUMNS": "120"}).invoke(epochs, words)


def read_table(run: Run) -> list[dict[str, str]]:
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/epochs.tsv")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@pytest.fixture
def training_run(store: Path, small_corpus: Path) -> Run:
    """A finished training run of two epochs."""
    words = ["--data_root", str(small_corpus), "--num_epochs", "2", "--lr", "1e-4", *TINY]
    result = CliRunner().invoke(train, words)
    assert result.exit_code == 0, result.output
    return runs_of("train")[0]


@pytest.mark.slow
def test_every_epoch_is_evaluated_once_and_charted(training_run: Run, small_corpus: Path) -> None:
    run_id = training_run.info.run_id
    first = call_epochs(small_corpus, [run_id], "--track", "LA,DF")
    assert first.exit_code == 0, first.output
    assert "Evaluated 4 of 4" in first.output
    assert "(chosen)" in first.output
    assert "synthetic" in first.output
    door = runs_of("epochs")[0]
    assert {item.path for item in connect().list_artifacts(door.info.run_id)} >= {"epochs.png", "epochs.tsv"}
    rows = read_table(door)
    assert [(row["epoch"], row["track"]) for row in rows] == [
        ("0", "LA"),
        ("0", "DF"),
        ("1", "LA"),
        ("1", "DF"),
    ]
    chosen = training_run.data.tags["chosen_epoch"]
    assert {row["epoch"] for row in rows if row["is_chosen"] == "True"} == {chosen}
    assert_numbers_lead_back(rows, door, training_run)

    # Known checkpoints are not scored again: not by the second call, nor for the track that it adds. Without ids
    # it takes the newest training of each recipe.
    second = call_epochs(small_corpus, [])
    assert second.exit_code == 0, second.output
    assert "Evaluated 2 of 6" in second.output
    assert len(runs_of("score")) == len(runs_of("evaluate")) == 6
    known = [row for row in read_table(runs_of("epochs")[0]) if row["track"] != "In-the-Wild"]
    assert [row["eer_percent"] for row in known] == [row["eer_percent"] for row in rows]
    assert {row["is_new"] for row in known} == {"False"}
    assert_numbers_lead_back(known, door, training_run)
    assert "viewStateShareKey=recipes-all" in second.output


def assert_numbers_lead_back(rows: list[dict[str, str]], door: Run, training_run: Run) -> None:
    """Each number is that of its evaluation run, and the door's own metric at the step of its epoch."""
    client = connect()
    for row in rows:
        track, eer_percent = row["track"], float(row["eer_percent"])
        run = client.get_run(row["evaluate_run_id"])
        assert run.data.metrics[f"{track}/eer_percent"] == eer_percent
        assert run.data.tags["epochs_run_id"] == door.info.run_id
        assert run.data.tags["train_run_id"] == training_run.info.run_id
        assert run.data.tags["epoch"] == row["epoch"]
        history = client.get_metric_history(door.info.run_id, f"{track}/eer_percent.v1")
        assert {item.step: item.value for item in history}[int(row["epoch"])] == eer_percent
        beside = client.get_metric_history(training_run.info.run_id, f"{track}/eer_percent_by_epoch")
        assert [item.value for item in beside if item.step == int(row["epoch"])] == [eer_percent]


@pytest.mark.slow
def test_scores_are_reused_and_a_collapsed_epoch_leaves_a_gap(
    training_run: Run, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = training_run.info.run_id
    assert call_epochs(small_corpus, [run_id], "--track", "DF").exit_code == 0
    client = connect()
    for run in runs_of("evaluate"):
        # Not evaluations of these trials by this key.
        tags = {"0": {"key_sha256": "of another key"}, "1": {"subset": "progress"}}[run.data.tags["epoch"]]
        for name, value in tags.items():
            client.set_tag(run.info.run_id, name, value)

    def collapse(
        run: TrackedRun, source: ScoreSource, corpus: Corpus, request: EvaluationRequest
    ) -> Evaluation:
        if source.tags["epoch"] == "0":
            raise ValueError("scores are constant")
        return track_evaluation(run, source, corpus, request)

    monkeypatch.setattr("sls.tracking.pipeline.track_evaluation", collapse)
    result = call_epochs(small_corpus, [run_id], "--track", "DF")
    assert result.exit_code == 0, result.output
    assert "Evaluated 2 of 2" in result.output
    assert "v1 epoch 0 on DF: scores are constant" in result.output
    assert len(runs_of("score")) == 2
    rows = read_table(runs_of("epochs")[0])
    assert rows[0]["eer_percent"] == ""
    assert 0 <= float(rows[1]["eer_percent"]) <= 100


@pytest.mark.slow
def test_a_served_checkpoint_is_downloaded_once_for_all_tracks_and_nothing_stays_behind(
    training_run: Run, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(uri: str, dst_path: str | None = None) -> str:
        fetched.append(uri)
        return str(download(uri, dst_path=dst_path))

    download = mlflow.artifacts.download_artifacts
    monkeypatch.setattr("sls.tracking.checkpoints.is_local_uri", lambda uri: False)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fetch)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    result = call_epochs(small_corpus, [training_run.info.run_id], "--track", "LA,DF")
    assert result.exit_code == 0, result.output
    models = [uri for uri in fetched if uri.startswith("models:/")]
    assert len(models) == len(set(models)) == 2
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_runs_of_one_recipe_are_told_apart(store: Path) -> None:
    client = connect()
    run_ids = []
    for recipe in ("v1", "v1", "v2"):
        run = client.create_run("0", tags={"kind": "train", "recipe": recipe, "chosen_epoch": "3"})
        model = client.create_logged_model("0", tags={"epoch": "3"}, source_run_id=run.info.run_id)
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 3)])
        run_ids.append(run.info.run_id)
    trainings = find_training_runs(client, [*run_ids, run_ids[0]])
    assert [training.name for training in trainings] == [f"v1 {run_ids[0][:8]}", f"v1 {run_ids[1][:8]}", "v2"]
    assert [list(training.checkpoints) for training in trainings] == [[3]] * 3
    assert trainings[0].chosen_epoch == 3


def test_epoch_whose_weights_were_not_kept_leaves_a_gap(
    store: Path, small_corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect()
    run = client.create_run("0", tags={"kind": "train", "recipe": "v1", "chosen_epoch": "1"})
    model = client.create_logged_model("0", tags={"epoch": "0", "weights": "deleted"})
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    result = call_epochs(small_corpus, [run.info.run_id], "--track", "DF")
    assert result.exit_code == 2
    assert "found no evaluated epoch" in result.stderr
    assert "v1 epoch 0 on DF: not evaluated: its weights were not kept" in caplog.text


def test_no_run_is_refused(store: Path, small_corpus: Path) -> None:
    result = call_epochs(small_corpus, [])
    assert result.exit_code == 2
    assert "runs: found nothing, expected ids of training runs" in result.stderr


def test_unknown_run_is_named(store: Path, small_corpus: Path) -> None:
    result = call_epochs(small_corpus, ["0" * 32])
    assert result.exit_code == 2
    assert f"no run {'0' * 32}" in result.stderr


def test_run_that_trained_nothing_is_named(store: Path, small_corpus: Path) -> None:
    with tracked_run("check_data") as run:
        pass
    result = call_epochs(small_corpus, [run.run_id])
    assert result.exit_code == 2
    assert f"{run.run_id} (kind check_data) has no checkpoints" in result.stderr


def test_default_tracks_are_those_of_evaluation_that_have_data(small_corpus: Path) -> None:
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    assert {"train", "dev", "ASVspoof5"} <= set(corpus.tracks)
    assert find_tracks(corpus) == ["LA", "DF", "In-the-Wild"]
    assert find_tracks(corpus, ["DF", "LA", "DF"]) == ["DF", "LA"]


def test_data_root_without_any_track_is_refused(small_corpus: Path, tmp_path: Path) -> None:
    tracks = open_corpus(DataConfig(data_root=str(small_corpus))).tracks
    with pytest.raises(ValueError, match="found data of none of LA, DF"):
        find_tracks(Corpus("empty", tmp_path, tracks))
