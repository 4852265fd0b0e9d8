"""A run from its beginning to its end (`active_run`), and what it records (`run`)."""

import json
import os
import signal
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from sls.config import Config
from sls.config_file import build_config
from sls.tracking.active_run import tracked_run
from sls.tracking.run import run_link
from sls.tracking.signals import Terminated
from sls.tracking.store import EXPERIMENT_NAME, connect


def test_run_lands_in_the_experiment_and_says_what_it_was_made_with(store) -> None:
    with tracked_run("train", "a name", {"recipe": "v1"}) as run:
        pass
    found = connect().get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "a name"
    assert connect().get_experiment(found.info.experiment_id).name == EXPERIMENT_NAME
    assert found.data.tags["kind"] == "train"
    assert found.data.tags["recipe"] == "v1"
    assert len(found.data.tags["git.commit"]) == 40
    assert found.data.tags["git.dirty"] in {"true", "false"}
    environment = json.loads(mlflow.artifacts.load_text(f"runs:/{run.run_id}/environment.json"))
    assert environment["packages"]["torch"]
    assert environment["hardware"]["cpu_cores"] == os.cpu_count()


def test_the_name_of_a_run_is_text_in_a_link(store) -> None:
    with tracked_run("train", "a|b](c)") as run:
        pass
    link = run_link(connect().get_run(run.run_id))
    assert link.startswith("[a&#124;b&#93;(c)](#/experiments/"), link


def test_artifacts_lie_beside_the_database_whatever_the_working_directory(
    store, tmp_path, monkeypatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with tracked_run("train") as run:
        run.log_text("x", "x.txt")
    assert not list(elsewhere.iterdir())
    assert len(list((store.parent / "mlruns").rglob("x.txt"))) == 1


def test_failed_run_holds_the_error_and_the_traceback(store) -> None:
    with pytest.raises(ValueError, match="line one"), tracked_run("train") as run:
        raise ValueError("line one\nline two")
    found = connect().get_run(run.run_id)
    assert found.info.status == "FAILED"
    assert found.data.tags["error"] == "line one line two"
    assert Path(__file__).name in mlflow.artifacts.load_text(f"runs:/{run.run_id}/traceback.txt")


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signal_ends_the_run_as_killed(store, number: signal.Signals, error: type[BaseException]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    # A shell starts what it runs in the background with Ctrl-C ignored, and Python leaves that so.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(error), tracked_run("train") as run:
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert connect().get_run(run.run_id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_that_the_launcher_opened_is_taken_over_once(store, monkeypatch) -> None:
    client = MlflowClient()
    launched = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", launched.info.run_id)
    with tracked_run("main") as outer, tracked_run("train") as inner:
        assert outer.run_id == launched.info.run_id
        assert inner.run_id != outer.run_id
    assert client.get_run(outer.run_id).info.status == "FINISHED"


def test_configuration_is_recorded_whole_and_builds_again(store) -> None:
    config = build_config({"recipe": "mine", "lr": "1e-5", "loss_weights": "0.2,0.8"})
    with tracked_run("train") as run:
        run.log_config(config)
    params = connect().get_run(run.run_id).data.params
    assert params == {f"cfg/{name}": str(value) for name, value in config.to_flat().items()}
    stored = yaml.safe_load(mlflow.artifacts.load_text(f"runs:/{run.run_id}/config.yaml"))
    assert build_config(stored) == config
    assert build_config(stored) != Config()


@pytest.mark.slow
def test_default_store_is_at_the_project_root_whatever_the_working_directory(monkeypatch, tmp_path) -> None:
    root, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    mlflow.set_tracking_uri(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("sls.tracking.store.PROJECT_ROOT", root)
    monkeypatch.chdir(elsewhere)
    try:
        connect()
        assert mlflow.get_tracking_uri() == f"sqlite:///{root / 'mlflow.db'}"
        assert not list(elsewhere.iterdir())
    finally:
        mlflow.set_tracking_uri(None)
