"""The whole experiment, as its user starts it: `mlflow run .`, against a real tracking server over HTTP."""

import base64
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from entrypoints.compare import compare
from sls.config import PROJECT_ROOT
from sls.data.corpora.tracks import load_tracks
from sls.data.tables.score_files import join_scores, read_scores
from sls.engine.evaluation.calibration import fit_calibration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# The virtual environment's programs, also where it is not activated.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
SERVER_START_S = 120
TRACKS = ("LA", "DF", "In-the-Wild")
SCORED = ("dev", *TRACKS)
"""Those that versions are calibrated on, and evaluated on."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server with proxied artifacts; its address."""
    directory = tmp_path_factory.mktemp("server")
    address = f"http://127.0.0.1:{free_port()}"
    command = [
        *("mlflow", "server", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{directory / 'server.db'}"),
        *("--artifacts-destination", str(directory / "artifacts")),
    ]
    environment = {**os.environ, "PATH": PATH, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
    try:
        wait_until_healthy(address, process, directory / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_until_healthy(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the tracking server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def job(server: str, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `mlflow run .` printed, run on a small demo corpus from another working directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    parameters = {
        "data_root": small_corpus,
        "xlsr_model": "random:tiny",
        "lr": "1e-4",
        "num_epochs": 2,
        "log_every_steps": 1,
        "num_workers": 0,
    }
    command = ["mlflow", "run", str(PROJECT_ROOT), "--env-manager", "local", "--experiment-name", "xlsr-sls"]
    for name, value in parameters.items():
        command += ["-P", f"{name}={value}"]
    environment = {**os.environ, "PATH": PATH, "MLFLOW_TRACKING_URI": server, "COLUMNS": "120"}
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "SLS_DATA_ROOT"):
        environment.pop(name, None)
    result = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert not list(elsewhere.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        mlflow.set_tracking_uri(server)
        yield result.stdout
        mlflow.set_tracking_uri(None)


def runs_of(kind: str, experiment_name: str = "xlsr-sls") -> list[mlflow.entities.Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(experiment_name)
    return client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")


def test_table_names_recipes_tracks_and_the_next_commands(job: str, server: str) -> None:
    assert re.search(r"│ v1 .*│", job)
    assert re.search(r"│ v2 .*│", job)
    assert re.search(r"\bdev\b.*\bLA\b.*\bDF\b.*\bWild\b", job)
    assert "synthetic corpus" in job
    (main,) = runs_of("main")
    assert f"{server}/#/experiments/{main.info.experiment_id}/runs?viewState" in job
    assert f"viewStateShareKey=recipes-{main.info.run_id}&compareRunsMode=CHART" in job
    assert "mlflow models serve -m models:/xlsr-sls@champion" in job


def test_recipes_are_compared_on_every_track_and_the_verdicts_printed(job: str) -> None:
    text = " ".join(job.split())
    for run in runs_of("compare"):
        assert run.data.tags["systems"] == "v1, v2"
        assert run.data.tags["verdict"] in text
    assert {run.data.tags["track"] for run in runs_of("compare")} == set(TRACKS)


def test_output_in_a_pipe_has_no_progress_bars(job: str) -> None:
    assert "\x1b" not in job
    assert "━━" not in re.sub(r"[┏┡┗┳╇┻┓┩┛╋┃]━*|━+[┓┩┛┳╇╋]", "", job)


def test_all_runs_finished_and_are_marked_as_synthetic(job: str) -> None:
    counts = {"main": 1, "train": 2, "score": 8, "evaluate": 8, "compare": 3, "operating_point": 1}
    for kind, count in counts.items():
        runs = runs_of(kind)
        assert len(runs) == count
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert {run.data.tags["corpus"] for run in runs} == {"demo"}


def test_trainings_stand_at_the_top_level_and_what_was_made_of_them_below(job: str) -> None:
    top_level = {kind: {run.info.run_id for run in runs_of(kind)} for kind in ("main", "train")}
    for kind, parents in {
        "score": "train",
        "evaluate": "train",
        "compare": "main",
        "operating_point": "main",
    }.items():
        assert {run.data.tags["mlflow.parentRunId"] for run in runs_of(kind)} == top_level[parents]
    assert all("mlflow.parentRunId" not in run.data.tags for kind in top_level for run in runs_of(kind))
    assert {run.info.run_name for run in runs_of("train")} == {"train v1", "train v2"}


def test_training_run_bears_the_figures_of_its_evaluations(job: str) -> None:
    evaluations = runs_of("evaluate")
    for training in runs_of("train"):
        own = [run for run in evaluations if run.data.tags["mlflow.parentRunId"] == training.info.run_id]
        assert len(own) == len(SCORED)
        for run in own:
            track, found = run.data.tags["track"], training.data.metrics
            names = {f"{track}/eer_percent{ending}" for ending in ("", "_low", "_high", "_clustered_low")}
            names |= {"LA/min_tdcf"} if track == "LA" else set()
            assert {name: found[name] for name in names} == {name: run.data.metrics[name] for name in names}


def test_training_run_holds_losses_by_epoch_configuration_data_and_checkpoints(job: str) -> None:
    client = MlflowClient()
    for run in runs_of("train"):
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [metric.step for metric in history] == [0, 1]
        assert run.data.params["cfg/lr"] == "0.0001"
        assert run.data.params["cfg/seed"] == "1234"
        contexts = {dataset.tags[0].value for dataset in run.inputs.dataset_inputs}
        is_v2 = run.data.tags["recipe"] == "v2"
        assert contexts == ({"training", "validation"} if is_v2 else {"training"})
        assert ("val/eer_percent" in run.data.metrics) is is_v2
        models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
        assert sorted(model.name for model in models) == ["epoch_0", "epoch_1"]
        assert all(model.metrics for model in models)


def test_recipes_differ_only_in_the_choice_after_the_same_steps(job: str) -> None:
    client = MlflowClient()
    losses = [
        [metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")]
        for run in runs_of("train")
    ]
    assert losses[0] == losses[1]


def test_every_number_leads_back_to_its_training_run(job: str) -> None:
    client = MlflowClient()
    evaluations = runs_of("evaluate")
    assert {(run.data.tags["recipe"], run.data.tags["track"]) for run in evaluations} == {
        (recipe, track) for recipe in ("v1", "v2") for track in SCORED
    }
    for run in evaluations:
        track = run.data.tags["track"]
        eer_percent = run.data.metrics[f"{track}/eer_percent"]
        assert 0 <= eer_percent <= 100
        assert (f"{track}/min_tdcf" in run.data.metrics) is (track == "LA")
        scoring = client.get_run(run.data.tags["score_run_id"])
        training = client.get_run(scoring.data.tags["train_run_id"])
        assert training.data.tags["recipe"] == run.data.tags["recipe"]
        checkpoint = client.get_logged_model(run.data.tags["model_id"])
        assert checkpoint.source_run_id == training.info.run_id
        assert any(
            metric.key == f"{track}/eer_percent" and metric.value == eer_percent
            for metric in checkpoint.metrics
        )
        assert f"/runs/{training.info.run_id}" in run.data.tags["mlflow.note.content"]


def test_each_recipe_has_a_version_and_the_champion_is_the_better_on_df(job: str) -> None:
    client = MlflowClient()
    versions = {
        recipe: client.get_model_version_by_alias("xlsr-sls", f"recipe-{recipe}") for recipe in ("v1", "v2")
    }
    for recipe, version in versions.items():
        assert version.tags["recipe"] == recipe
        assert version.tags["stage"] == "staging"
        assert client.get_run(version.tags["run_id"]).data.tags["recipe"] == recipe
        assert {f"demo.{track}.eer_percent" for track in TRACKS} <= set(version.tags)
    champion = client.get_model_version_by_alias("xlsr-sls", "champion")
    lowest = min(float(version.tags["demo.DF.eer_percent"]) for version in versions.values())
    assert float(champion.tags["demo.DF.eer_percent"]) == lowest


def test_versions_decide_by_a_calibration_of_dev_where_one_can_be_fitted(
    job: str, small_corpus: Path
) -> None:
    client, key = MlflowClient(), load_tracks()["dev"].key(small_corpus)
    for recipe in ("v1", "v2"):
        scoring = next(
            run
            for run in runs_of("score")
            if (run.data.tags["recipe"], run.data.tags["track"]) == (recipe, "dev")
        )
        directory = mlflow.artifacts.download_artifacts(f"runs:/{scoring.info.run_id}/scores")
        joined = join_scores(read_scores(Path(directory) / "dev.txt"), key)
        version = client.get_model_version_by_alias("xlsr-sls", f"recipe-{recipe}")
        outputs = mlflow.models.get_model_info(version.source).signature.outputs.input_names()
        try:
            expected = fit_calibration(joined, "logistic")
        except ValueError:  # two epochs on thirty recordings may teach a model nothing
            assert "llr" not in outputs
            assert f"{recipe} is registered without a calibration" in job
            continue
        assert "llr" in outputs
        assert "fitted on dev (synthetic demo corpus)" in version.description
        low, high = expected.score_range
        assert f"{low:.6g} to {high:.6g}" in version.description
        assert ("they are known to it" in version.description) is (recipe == "v2")
        assert {"demo.DF.act_dcf", "demo.DF.act_dcf_from"} <= set(version.tags)
        training = client.get_run(version.tags["run_id"]).data.metrics
        assert "DF/miss_percent_by_logistic_of_dev" in training
    assert "Decisions by a calibration of dev" in job


def test_registered_recipes_are_compared_by_their_aliases(
    job: str, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Apart from the job, whose runs other tests count.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "aside")
    models = "models:/xlsr-sls@recipe-v1,models:/xlsr-sls@recipe-v2"
    arguments = [
        "--track",
        "DF",
        "--models",
        models,
        "--data_root",
        str(small_corpus),
    ]
    result = CliRunner().invoke(compare, arguments)
    assert result.exit_code == 0, result.output + result.stderr
    assert re.search(r"v1 epoch \d .* v2 epoch \d .*\bDF\b", result.output, re.DOTALL)
    (compared,) = runs_of("compare", "aside")
    named = {value for tag, value in compared.data.tags.items() if tag.startswith("scores.")}
    assert len(named) == 2
    known = {run.info.run_id for run in runs_of("score")}
    for place in named:  # a run that stays, not a file that was downloaded for the moment
        run_id = place.removeprefix("runs:/").removesuffix("/scores/DF.txt")
        assert run_id in known


def test_served_model_gives_the_scores_of_the_score_file(
    job: str, small_corpus: Path, tmp_path: Path
) -> None:
    model = mlflow.pyfunc.load_model("models:/xlsr-sls@recipe-v1")
    scoring = next(
        run for run in runs_of("score") if run.data.tags["recipe"] == "v1" and run.data.tags["track"] == "LA"
    )
    directory = mlflow.artifacts.download_artifacts(
        f"runs:/{scoring.info.run_id}/scores", dst_path=str(tmp_path)
    )
    table = read_scores(Path(directory) / "LA.txt")
    names = list(table.names[:3])
    files = [next(small_corpus.rglob(f"{name}.flac")) for name in names]
    encoded = [base64.b64encode(path.read_bytes()).decode() for path in files]
    answer = model.predict(pd.DataFrame({"audio": encoded}))
    assert list(answer["score"]) == pytest.approx(list(table.scores[:3]), abs=1e-5)
