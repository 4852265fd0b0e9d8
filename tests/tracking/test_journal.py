"""Runs through a server that goes away, with a real `mlflow server` that is killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from sls.config import PROJECT_ROOT
from sls.data.protocols import Protocol
from sls.tracking import courier, recorders
from sls.tracking.artifacts import read_directory
from sls.tracking.courier import send_journal
from sls.tracking.journal import Journal, find_journals
from sls.tracking.runs import TrackedRun, tracked_run
from sls.tracking.store import find_run

FIGURES = ("train/loss", "val/loss")


class Server:
    """A tracking server on loopback, with artifacts by its own hands."""

    def __init__(self, directory: Path, database: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.directory, self.database = directory, database
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.directory / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self.directory / "server.log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is not started yet; doors find it by the environment."""
    server = Server(tmp_path, store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(recorders, "AWAY_PATIENCE_S", 0.5)
    monkeypatch.setattr(courier, "MAX_DELAY_S", 0.5)
    yield server
    server.kill()
    mlflow.set_tracking_uri(None)


def log_epoch(run: TrackedRun, epoch: int) -> str:
    """Records what an epoch of a training leaves, with files in place of weights."""
    for step in range(3 * epoch, 3 * epoch + 3):
        run.log_metrics({"train/step_loss": 1 / (1 + step)}, step)
    with run.staging() as directory:
        (directory / "checkpoint.safetensors").write_bytes(b"weights of %d" % epoch)
        tags = {"epoch": str(epoch)}
        handle = run.log_model(
            {"name": f"epoch_{epoch}", "tags": tags, "params": tags, "step": epoch}, directory
        )
    run.log_metrics(dict.fromkeys(FIGURES, 1 / (1 + epoch)), epoch, handle)
    with run.staging() as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "state.bin").write_bytes(b"state after %d" % epoch)
        run.replace_directory(directory, "state")
    return handle


def assert_whole(num_epochs: int, kept: set[int], status: str = "FINISHED") -> None:
    """Everything that `log_epoch` recorded is on the server, once."""
    client = MlflowClient()
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len(runs) == 1
    run = client.get_run(runs[0].info.run_id)
    assert run.info.status == status
    steps = client.get_metric_history(run.info.run_id, "train/step_loss")
    assert [(item.step, item.value) for item in steps] == [(n, 1 / (1 + n)) for n in range(3 * num_epochs)]
    for name in FIGURES:
        history = client.get_metric_history(run.info.run_id, name)
        assert [(item.step, item.value) for item in history] == [(n, 1 / (1 + n)) for n in range(num_epochs)]
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["demo-train"]
    models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    assert sorted(int(model.tags["epoch"]) for model in models) == list(range(num_epochs))
    assert len(client.search_logged_models([run.info.experiment_id])) == num_epochs
    for model in models:
        epoch = int(model.tags["epoch"])
        assert model.status == LoggedModelStatus.READY
        assert sorted((item.key, item.value) for item in model.metrics) == [
            (name, 1 / (1 + epoch)) for name in FIGURES
        ]
        files = client.list_logged_model_artifacts(model.model_id)
        assert [item.path for item in files] == (["checkpoint.safetensors"] if epoch in kept else [])
        assert model.tags.get("weights") == (None if epoch in kept else "deleted")
        if epoch in kept:
            path = Path(mlflow.artifacts.download_artifacts(f"models:/{model.model_id}"))
            assert (path / "checkpoint.safetensors").read_bytes() == b"weights of %d" % epoch
    state = read_directory(client, run.info.run_id, "state")
    assert (state / "deep" / "state.bin").read_bytes() == b"state after %d" % (num_epochs - 1)


def record_training(run: TrackedRun, num_epochs: int, before_epoch=lambda epoch: None) -> None:
    protocol = Protocol(Path("protocol.txt"), "0" * 64, np.array(["T_1"], object), np.array([0], np.int8))
    run.log_dataset(protocol, "demo-train", "training")
    former = None
    for epoch in range(num_epochs):
        before_epoch(epoch)
        handle = log_epoch(run, epoch)
        if former:
            run.delete_checkpoint(former)
        former = handle


def test_local_store_gets_all_of_it_and_the_journal_goes(store) -> None:
    with tracked_run("train", journal=True) as run:
        record_training(run, 3)
    assert_whole(3, {2})
    assert find_journals() == []
    assert MlflowClient().get_run(run.run_id).data.tags["kind"] == "train"


@pytest.mark.slow
def test_server_killed_and_started_again_in_the_middle(server: Server, caplog) -> None:
    server.start()

    def disturb(epoch: int) -> None:
        if epoch == 1:
            server.kill()
        if epoch == 4:
            server.start()

    with tracked_run("train", journal=True) as run:
        record_training(run, 6, disturb)
    assert_whole(6, {5})
    assert find_journals() == []
    said = [record.message for record in caplog.records if "tracking server is" in record.message]
    assert [message.split(";")[0] for message in said] == [
        "the tracking server is away",
        "the tracking server is back",
    ]


@pytest.mark.slow
def test_server_away_for_good_and_synchronised_later_by_one_of_two(server: Server) -> None:
    with tracked_run("train", journal=True) as run:
        record_training(run, 3)
    (path,) = find_journals(run.run_id)
    assert len(list((path / "files").glob("*/checkpoint.safetensors"))) == 1
    assert len(list((path / "files").glob("*/deep"))) == 1
    sync = [sys.executable, "-m", "entrypoints.sync"]
    away = subprocess.run(sync, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert away.returncode == 1
    assert "the tracking server is away" in away.stderr
    assert len(away.stderr.splitlines()) == 1
    server.start()
    journal = Journal(path)
    held = subprocess.run(sync, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert held.returncode == 1
    assert f"is held by process {os.getpid()} on" in held.stderr
    journal.close()
    both = [subprocess.Popen(sync, cwd=PROJECT_ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate()
    assert 0 in {process.returncode for process in both}
    assert_whole(3, {2})
    assert find_journals() == []
    assert find_run(MlflowClient(), run.run_id).info.status == "FINISHED"


def test_everything_sent_twice_is_there_once(store, monkeypatch) -> None:
    monkeypatch.setattr(Journal, "close", lambda journal: journal._lock.close())
    monkeypatch.setattr(Journal, "_free_files", lambda journal, number: None)
    with tracked_run("train", journal=True) as run:
        record_training(run, 3)
    (path,) = find_journals(run.run_id)
    (path / "position.json").unlink()
    sent = send_journal(path)
    assert sent.run_id == run.run_id
    assert sent.num_refused == 0
    assert_whole(3, {2})
