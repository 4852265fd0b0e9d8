"""A server that colleagues share: PostgreSQL behind it, artifacts by its hands, passwords, two users at once."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient
from werkzeug.security import generate_password_hash

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
        "default_permission = READ\n"
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
    except requests.RequestException:
        return False


class User:
    """An account on the server, and the doors that it opens; in an experiment of its own if that is named."""

    def __init__(self, server: str, name: str, directory: Path, **variables: str) -> None:
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": server,
            "MLFLOW_TRACKING_USERNAME": name,
            "SLS_JOURNAL_DIR": str(directory / "journal"),
            **variables,
        }

    def start(self, door: str, options: dict[str, object]) -> subprocess.Popen[str]:
        arguments = [part for option, value in options.items() for part in (f"--{option}", str(value))]
        return subprocess.Popen(
            [sys.executable, "-m", f"entrypoints.{door}", *arguments],
            cwd=PROJECT_ROOT,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )


def quicken_passwords(tmp_path: Path) -> None:
    """Keeps passwords as the server does, in fewer rounds: it counts them anew for each of many requests."""
    quick = generate_password_hash(PASSWORD, "pbkdf2:sha256:1000")
    with closing(sqlite3.connect(tmp_path / "accounts.db")) as accounts, accounts:
        accounts.execute("UPDATE users SET password_hash = ?", [quick])


def wait_for(*doors: subprocess.Popen[str]) -> list[str]:
    """Waits until all have ended well, and returns what they said on the way."""
    said = []
    for door in doors:
        said.append(door.communicate(timeout=400)[1])
        assert door.returncode == 0, said[-1]
    return said


def test_two_users_train_and_evaluate_at_once_and_what_one_may_only_read_stays(
    store: Path, server: str, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client, accounts = MlflowClient(server), AuthServiceClient(server)
    experiment = client.get_experiment(client.create_experiment("xlsr-sls"))
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    for name in ("anna", "ben"):
        accounts.create_user(name, PASSWORD)
        accounts.grant_user_permission(name, "experiment", experiment.experiment_id, "EDIT")
    quicken_passwords(tmp_path)
    users = {"v1": User(server, "anna", tmp_path), "v2": User(server, "ben", tmp_path)}
    data = {"data_root": small_corpus, "device": "cpu", "num_workers": 0}
    options = {
        **data,
        "xlsr_model": "random:tiny",
        "audio_max_len": 8000,
        "batch_size": 4,
        "num_epochs": 2,
        "log_every_steps": 1,
        "keep": "all",
    }
    wait_for(
        *(
            user.start("train", {"config": f"configs/{recipe}.yaml", **options})
            for recipe, user in users.items()
        )
    )

    runs = {run.data.tags["recipe"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"v1", "v2"}
    for run in runs.values():
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in history] == [0, 1]
        for epoch in (0, 1):
            assert resolve_model(client, f"runs:/{run.info.run_id}/epoch_{epoch}").path.is_file()
    assert not list((tmp_path / "journal").glob("[0-9]*"))

    # Each scores and evaluates what it trained, at the same time.
    ids = {recipe: run.info.run_id for recipe, run in runs.items()}
    model = {recipe: f"runs:/{run_id}" for recipe, run_id in ids.items()}
    scored = {"track": "LA", **data, "force": "true"}
    outputs = {recipe: {"output": tmp_path / f"{recipe}.txt"} for recipe in users}
    wait_for(*(users[r].start("score", {"model": model[r], **outputs[r], **scored}) for r in users))
    evaluated = {"track": "LA", "data_root": small_corpus}
    wait_for(*(users[r].start("evaluate", {"model": model[r], **evaluated}) for r in users))
    figures = {}
    for recipe, run_id in ids.items():
        children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
        assert sorted(child.info.run_name for child in children) == [
            f"evaluate {recipe} LA",
            f"score {recipe} LA",
        ]
        figures[recipe] = client.get_run(run_id).data.metrics["LA/eer_percent"]
        own = next(child for child in children if child.data.tags["kind"] == "evaluate")
        assert own.data.metrics["LA/eer_percent"] == figures[recipe]

    # Of what is Anna's, Ben may from now on read alone: he evaluates her epoch in an experiment of his own.
    wait_for(users["v1"].start("register", {"run_id": ids["v1"]}))
    accounts.revoke_user_permission("ben", "experiment", experiment.experiment_id)
    guest = User(server, "ben", tmp_path, MLFLOW_EXPERIMENT_NAME="of Ben")
    wait_for(
        guest.start("score", {"model": model["v1"], "output": tmp_path / "df.txt", **scored, "track": "DF"})
    )
    (said,) = wait_for(guest.start("evaluate", {"model": model["v1"], **evaluated, "track": "DF"}))
    for told in ("checkpoint", "versions of", f"figures on the run {ids['v1']}"):
        assert re.search(f"WARNING: The .*{told} .*Permission denied", said), told
    assert "Traceback" not in said
    of_ben = client.search_runs([client.get_experiment_by_name("of Ben").experiment_id])
    assert {run.info.status for run in of_ben} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in of_ben} == {ids["v1"]}
    assert any("DF/eer_percent" in run.data.metrics for run in of_ben)
    for recipe, run_id in ids.items():
        metrics = client.get_run(run_id).data.metrics
        assert metrics["LA/eer_percent"] == figures[recipe]
        assert "DF/eer_percent" not in metrics

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a guess")
    with pytest.raises(MlflowException, match="401|not authenticated"):
        MlflowClient(server).search_experiments()
