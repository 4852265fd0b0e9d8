"""A server that colleagues share: PostgreSQL behind it, artifacts by its hands, a password, two trainings at once."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sls.config import PROJECT_ROOT
from sls.tracking.registry.checkpoints import resolve_model

pytestmark = pytest.mark.slow

SUPERUSER = "postgres"  # refuses to run as root
PASSWORD = "a password of sixteen"


@pytest.fixture
def database(program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A PostgreSQL of its own, on a socket in a directory of its own; its address."""
    newest = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if newest is not None:
        monkeypatch.setenv("PATH", f"{newest}{os.pathsep}{os.environ['PATH']}")
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    # The account of the database must be able to enter it, which it cannot in pytest's own directories.
    directory = Path(tempfile.mkdtemp(prefix="sls-postgresql-"))
    become = []
    if os.geteuid() == 0:
        become = [program("runuser"), "-u", SUPERUSER, "--"]
        shutil.chown(directory, SUPERUSER)
    data = str(directory / "data")

    def call(*command: str) -> None:
        done = subprocess.run(
            [*become, *command], cwd=directory, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    options = f"-c listen_addresses='' -c unix_socket_directories='{directory}'"
    try:
        call(initdb, "--auth", "trust", "--username", SUPERUSER, "--no-sync", data)
        call(pg_ctl, "--pgdata", data, "--wait", "--options", options, "--log", f"{data}.log", "start")
        try:
            yield f"postgresql+psycopg2://{SUPERUSER}@/postgres?host={directory}"
        finally:
            call(pg_ctl, "--pgdata", data, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def server(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tracking server, which the environment names with account and password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "basic_auth.ini"
    settings.write_text(
        "[mlflow]\n"
        "default_permission = EDIT\n"
        f"database_uri = sqlite:///{tmp_path / 'accounts.db'}\n"
        f"admin_username = admin\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    environment = {
        **os.environ,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--app-name", "basic-auth", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    address = f"http://127.0.0.1:{port}"
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 180
        while not _answers(address):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_two_trainings_at_once_are_recorded_whole_and_nobody_else_gets_in(
    store: Path, server: str, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path / "journal"))
    options = {
        "data_root": small_corpus,
        "xlsr_model": "random:tiny",
        "device": "cpu",
        "audio_max_len": 8000,
        "batch_size": 4,
        "num_epochs": 2,
        "num_workers": 0,
        "log_every_steps": 1,
        "keep": "all",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    trainings = [
        subprocess.Popen(
            [sys.executable, "-m", "entrypoints.train", "--config", f"configs/{recipe}.yaml", *arguments],
            cwd=PROJECT_ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for recipe in ("v1", "v2")
    ]
    for training in trainings:
        errors = training.communicate(timeout=400)[1]
        assert training.returncode == 0, errors

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("xlsr-sls")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    runs = {run.data.tags["recipe"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"v1", "v2"}
    for run in runs.values():
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in history] == [0, 1]
        for epoch in (0, 1):
            assert resolve_model(client, f"runs:/{run.info.run_id}/epoch_{epoch}").path.is_file()
    assert not list((tmp_path / "journal").glob("[0-9]*"))

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a guess")
    with pytest.raises(MlflowException, match="401|not authenticated"):
        MlflowClient(server).search_experiments()
