"""The epochs door, and with it `trainings`: every epoch of training runs on every track, each evaluated once."""

import csv
import re
import shutil
import tempfile
import time
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow.entities import LoggedModelOutput, Run

from entrypoints.epochs import epochs
from entrypoints.progress import scoring_progress
from entrypoints.train import train
from sls.config import ComputeConfig, DataConfig, ScoringConfig
from sls.data.corpora.corpus import Corpus, open_corpus
from sls.engine.scoring.settings import settings_of
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.comparison_view import Compared
from sls.tracking.evaluation.epochs import track_epochs
from sls.tracking.evaluation.pipeline import Pipeline, find_tracks
from sls.tracking.evaluation.trainings import TrainingRun, find_training_runs
from sls.tracking.store import connect

pytestmark = pytest.mark.slow

TINY = ["--xlsr_model", "random:tiny", "--num_workers", "0", "--device", "cpu"]
CPU = ["--num_workers", "0", "--device", "cpu"]


def runs_of(kind: str) -> list[Run]:
    """Runs of a door, the newest first."""
    client = connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, f"tags.kind = '{kind}'", order_by=["attributes.start_time DESC"])


def call_epochs(small_corpus: Path, run_ids: list[str], *arguments: str) -> Result:
    words = ["--runs", ",".join(run_ids), "--data_root", str(small_corpus), *CPU, *arguments]
    return CliRunner().invoke(epochs, words)


def read_table(run: Run) -> list[dict[str, str]]:
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/epochs.tsv")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@pytest.fixture
def training_run(store: Path, small_corpus: Path) -> Run:
    """A finished training run of two epochs."""
    words = ["--data_root", str(small_corpus), "--num_epochs", "2", "--lr", "1e-4", "--keep", "all", *TINY]
    result = CliRunner().invoke(train, words)
    assert result.exit_code == 0, result.output
    return runs_of("train")[0]


def test_every_epoch_is_evaluated_once_and_charted(
    training_run: Run, small_corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run_id = training_run.info.run_id
    first = call_epochs(small_corpus, [run_id], "--track", "LA,DF")
    assert first.exit_code == 0, first.output
    assert "Evaluated 4 of 4.\n" in first.output
    assert re.search(r"make ui\b.* http", first.output.splitlines()[-1])
    told = [
        line for line in caplog.messages if re.fullmatch(r"v1 epoch \d on (LA|DF): EER \d+\.\d\d %", line)
    ]
    assert len(told) == 4
    assert any(re.search(r"\b2 epochs .*\b2 tracks", line) for line in caplog.messages)
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

    # Known checkpoints are not scored again: not by the second call, nor for the tracks that it adds. Without ids
    # it takes the newest training of each recipe on the corpus.
    second = call_epochs(small_corpus, [])
    assert second.exit_code == 0, second.output
    assert "Evaluated 2 of 6; " in second.output
    assert len(runs_of("evaluate")) == 6
    assert not runs_of("score")
    known = [row for row in read_table(runs_of("epochs")[0]) if row["track"] in ("LA", "DF")]
    assert [row["eer_percent"] for row in known] == [row["eer_percent"] for row in rows]
    assert {row["is_new"] for row in known} == {"False"}
    assert_numbers_lead_back(known, door, training_run)
    assert "viewStateShareKey=recipes-demo" in second.output

    # Windows give other scores, which are neither taken from these nor charted among them.
    third = call_epochs(small_corpus, [run_id], "--track", "DF", "--window_hop", "8000")
    assert third.exit_code == 0, third.output
    assert "Evaluated 2 of 2.\n" in third.output
    assert {run.data.tags["not_comparable"] for run in runs_of("evaluate")[:2]} == {
        "windows every 8000 samples"
    }
    assert_numbers_lead_back(rows, door, training_run)
    again = call_epochs(small_corpus, [run_id], "--track", "DF")
    assert "Evaluated 0 of 2; " in again.output


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
        # One run holds scores and numbers, below its training, and no figure of every epoch.
        assert run.data.tags["mlflow.parentRunId"] == run.data.tags["train_run_id"]
        assert run.info.run_name == f"evaluate v1 epoch {row['epoch']} {track}"
        for place, names in (("report", {"report.json"}), ("scores", {f"{track}.txt", f"{track}.txt.json"})):
            kept = client.list_artifacts(run.info.run_id, place)
            assert {item.path for item in kept} == {f"{place}/{name}" for name in names}
        of_model = client.get_logged_model(row["model_id"]).metrics
        assert [
            (item.value, item.dataset_name) for item in of_model if item.key == f"{track}/eer_percent"
        ] == [(eer_percent, f"demo-{track}-key")]
        history = client.get_metric_history(door.info.run_id, f"{track}/eer_percent.v1")
        assert {item.step: item.value for item in history}[int(row["epoch"])] == eer_percent
        beside = client.get_metric_history(training_run.info.run_id, f"{track}/eer_percent_by_epoch")
        assert [item.value for item in beside if item.step == int(row["epoch"])] == [eer_percent]


def test_scores_are_reused_and_a_collapsed_epoch_leaves_a_gap(training_run: Run, small_corpus: Path) -> None:
    run_id = training_run.info.run_id
    assert call_epochs(small_corpus, [run_id], "--track", "DF").exit_code == 0
    client = connect()
    for run in runs_of("evaluate"):
        # Not evaluations of these trials by this key.
        tags = {"0": {"key_sha256": "of another key"}, "1": {"subset": "progress"}}[run.data.tags["epoch"]]
        for name, value in tags.items():
            client.set_tag(run.info.run_id, name, value)
        if run.data.tags["epoch"] == "0":
            uri = f"runs:/{run.info.run_id}/scores/DF.txt"
            lines = mlflow.artifacts.load_text(uri).splitlines()
            constant = "".join(f"{line.split()[0]} 0.5\n" for line in lines)
            client.log_text(run.info.run_id, constant, "scores/DF.txt")
    result = call_epochs(small_corpus, [run_id], "--track", "DF")
    assert result.exit_code == 0, result.output
    assert "Evaluated 2 of 2" in result.output
    assert "v1 epoch 0 on DF: " in result.output
    assert "scores are constant" in result.output
    assert not runs_of("score")
    assert [run.info.status for run in runs_of("evaluate")].count("FINISHED") == 3
    rows = read_table(runs_of("epochs")[0])
    assert rows[0]["eer_percent"] == ""
    assert 0 <= float(rows[1]["eer_percent"]) <= 100


def test_a_served_checkpoint_is_downloaded_once_for_all_tracks_and_nothing_stays_behind(
    training_run: Run, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(uri: str, dst_path: str | None = None) -> str:
        fetched.append(uri)
        return str(download(uri, dst_path=dst_path))

    download = mlflow.artifacts.download_artifacts
    monkeypatch.setattr("sls.tracking.registry.checkpoints.is_local_uri", lambda uri: False)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fetch)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    result = call_epochs(small_corpus, [training_run.info.run_id], "--track", "LA,DF")
    assert result.exit_code == 0, result.output
    models = [uri for uri in fetched if uri.startswith("models:/")]
    assert len(models) == len(set(models)) == 2
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def made_training(time: int, recipe: str, corpus: str = "demo", **model_tags: str) -> str:
    """A training run with one checkpoint, which began and ended at a time."""
    client = connect()
    tags = {"kind": "train", "recipe": recipe, "corpus": corpus, "chosen_epoch": "3"}
    run_id = client.create_run("0", time, tags).info.run_id
    model = client.create_logged_model("0", tags={"epoch": "3", **model_tags}, source_run_id=run_id)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 3)])
    client.set_terminated(run_id, end_time=time)
    return run_id


def test_newest_trainings_are_those_of_the_corpus_that_kept_weights(store: Path) -> None:
    client = connect()
    made_training(1, "v1")
    newest = made_training(3, "v1")
    oldest = made_training(2, "v2")
    # Of most trainings the best epoch and the last are kept.
    dropped = client.create_logged_model("0", tags={"epoch": "2", "weights": "deleted"})
    client.finalize_logged_model(dropped.model_id, "READY")
    client.log_outputs(oldest, [LoggedModelOutput(dropped.model_id, 2)])
    made_training(4, "v1", weights="deleted")
    made_training(5, "v1", corpus="Kim's")
    search = client.search_runs
    # Pages of one run: none is cut off.
    client.search_runs = lambda *args, **options: search(*args, **{**options, "max_results": 1})
    trainings = find_training_runs(client, [], "0", "demo")
    assert [(training.name, training.run_id) for training in trainings] == [("v2", oldest), ("v1", newest)]
    assert len(find_training_runs(client, [], "0", "Kim's")) == 1


def made_evaluation(corpus: Corpus, training: TrainingRun, eer_percent: float) -> None:
    """A finished evaluation of the checkpoint of `made_training` on DF, as the epochs door would find it."""
    track, client = corpus.track("DF"), connect()
    tags = {
        "kind": "evaluate",
        "model_id": training.checkpoints[3].model_id,
        "track": "DF",
        "corpus": corpus.name,
        "subset": track.default_subset,
        "key_sha256": track.key(corpus.data_root).digest,
        **{name: str(value) for name, value in settings_of(ComputeConfig(), ScoringConfig()).items()},
    }
    run_id = client.create_run("0", tags=tags).info.run_id
    client.log_metric(run_id, "DF/eer_percent", eer_percent)
    client.set_terminated(run_id)


@pytest.mark.parametrize(("corpus", "steps"), [("demo", {3: [8.0, 7.0]}), ("asvspoof", {})])
def test_eers_stand_beside_the_losses_of_a_training_on_the_same_corpus(
    corpus: str,
    steps: dict[int, list[float]],
    store: Path,
    small_corpus: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An EER, the same one again, and another by a corrected key, twice too."""
    caplog.set_level("INFO")
    client, run_id = connect(), made_training(1, "v1", corpus)
    corpora = open_corpus(DataConfig(data_root=str(small_corpus)))
    pipeline = Pipeline(client, corpora, ComputeConfig(), {}, scoring_progress, ScoringConfig())
    for eer_percent in (8.0, 8.0, 7.0, 7.0):
        trainings = find_training_runs(client, [run_id], "0", "demo")
        made_evaluation(pipeline.corpus, trainings[0], eer_percent)
        with tracked_run("epochs") as run:
            track_epochs(run, pipeline, trainings, ["DF"])
        (row,) = read_table(client.get_run(run.run_id))
        assert (row["recipe"], row["epoch"], row["is_chosen"]) == ("v1", "3", "True")
        assert float(row["eer_percent"]) == eer_percent
        time.sleep(0.002)  # points of one step are told apart by their milliseconds
    tags = client.get_run(run.run_id).data.tags
    assert (tags["corpus"], tags["tracks"], tags["train_run_ids"]) == ("demo", "DF", run_id)
    assert f"/runs/{run_id})" in tags["mlflow.note.content"]
    history = client.get_metric_history(run_id, "DF/eer_percent_by_epoch")
    found: dict[int, list[float]] = {}
    for point in sorted(history, key=lambda point: point.timestamp):
        found.setdefault(point.step, []).append(point.value)
    assert found == steps
    told = [line for line in caplog.messages if "was trained on" in line]
    assert len(told) == (0 if corpus == "demo" else 4)
    assert all(re.search(rf"\bv1 was trained on {corpus}: .*\bdemo\b", line) for line in told)


def test_a_missing_recording_is_refused_unless_failures_are_allowed(
    store: Path, small_corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_corpus, tmp_path / "corpus", symlinks=True)
    corpus = open_corpus(DataConfig(data_root=str(tmp_path / "corpus")))
    missing = corpus.track("DF").trials(corpus.data_root)[0].path
    missing.unlink()
    run_id = made_training(1, "v1", weights="deleted")
    refused = call_epochs(tmp_path / "corpus", [run_id], "--track", "DF")
    assert refused.exit_code == 2
    assert missing.name in refused.stderr
    allowed = call_epochs(tmp_path / "corpus", [run_id], "--track", "DF", "--max_failures", "1")
    assert "found no evaluated epoch" in allowed.stderr


def test_link_of_trainings_is_of_their_experiment_or_of_the_newest_ones_corpus(
    store: Path, small_corpus: Path
) -> None:
    client = connect()
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    run_ids = [made_training(2, "v1", "asvspoof"), made_training(1, "v2", "demo")]
    for training in find_training_runs(client, run_ids, "0", "demo"):
        made_evaluation(corpus, training, 8.0)
    result = call_epochs(small_corpus, run_ids, "--track", "DF")
    assert f"viewStateShareKey={Compared('asvspoof').key}&" in result.output
    for run_id in run_ids:
        client.set_tag(run_id, "main_run_id", "0" * 32)
    result = call_epochs(small_corpus, run_ids, "--track", "DF")
    assert f"viewStateShareKey={Compared('asvspoof', '0' * 32).key}&" in result.output


def test_runs_of_one_recipe_are_told_apart(store: Path) -> None:
    client = connect()
    run_ids = [made_training(number, recipe) for number, recipe in enumerate(("v1", "v1", "v2"), 1)]
    trainings = find_training_runs(client, [*run_ids, run_ids[0]], "0", "demo")
    assert [training.name for training in trainings] == [f"v1 {run_ids[0][:8]}", f"v1 {run_ids[1][:8]}", "v2"]
    assert [list(training.checkpoints) for training in trainings] == [[3]] * 3


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
    assert re.search(r"v1 epoch 0 on DF: .*weights", caplog.text)


def test_no_run_is_refused(store: Path, small_corpus: Path) -> None:
    made_training(1, "v1", "asvspoof")
    result = call_epochs(small_corpus, [])
    assert result.exit_code == 2
    assert re.search(r"runs: no .* demo\b.*mlflow run \. -e train", result.stderr)


def test_unknown_run_is_named(store: Path, small_corpus: Path) -> None:
    deleted = made_training(1, "v1")
    connect().delete_run(deleted)
    for run_id in ("0" * 32, deleted):
        result = call_epochs(small_corpus, [run_id])
        assert result.exit_code == 2
        assert f"no run {run_id}" in result.stderr


def test_run_that_trained_nothing_is_named(store: Path, small_corpus: Path) -> None:
    with tracked_run("check_data") as run:
        pass
    result = call_epochs(small_corpus, [run.run_id])
    assert result.exit_code == 2
    assert re.search(rf"{run.run_id} .*check_data.*no checkpoints", result.stderr)


def test_default_tracks_are_those_of_evaluation_that_have_data(small_corpus: Path) -> None:
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    assert {"train", "dev", "ASVspoof5"} <= set(corpus.tracks)
    assert find_tracks(corpus) == ["LA", "DF", "In-the-Wild"]
    assert find_tracks(corpus, ["DF", "LA", "DF"]) == ["DF", "LA"]


def test_data_root_without_any_track_is_refused(small_corpus: Path, tmp_path: Path) -> None:
    tracks = open_corpus(DataConfig(data_root=str(small_corpus))).tracks
    with pytest.raises(ValueError, match="found .*none of LA, DF"):
        find_tracks(Corpus("empty", tmp_path, tracks))
