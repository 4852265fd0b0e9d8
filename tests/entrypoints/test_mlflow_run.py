"""`mlflow run` as its documentation has it: from a git address, in an experiment, below a user's own run."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sls.config import PROJECT_ROOT, find_work_root

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
TINY = {
    "xlsr_model": "random:tiny",
    "device": "cpu",
    "audio_max_len": "8000",
    "num_epochs": "1",
    "num_workers": "0",
    "patience": "1",
}
NESTED = """
import mlflow
with mlflow.start_run() as parent:
    mlflow.projects.run({project!r}, entry_point="check_data", parameters={parameters!r}, env_manager="local")
print("PARENT", parent.info.run_id)
"""


@pytest.fixture
def environment(store: Path) -> dict[str, str]:
    """That of a user who has set no tracking store."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "SLS_"))} | {
        "PATH": PATH
    }


@pytest.fixture
def git_address(tmp_path: Path) -> Iterator[str]:
    """The project, as it is here, by a git server on this machine."""
    served = tmp_path / "served" / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (PROJECT_ROOT / name).is_file():
            (served / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_ROOT / name, served / name)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "The project"]):
        subprocess.run([*git, *arguments], cwd=served, check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    daemon = subprocess.Popen([*command, f"--base-path={served.parent}"], start_new_session=True)
    address = f"git://127.0.0.1:{port}/project"
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(["git", "ls-remote", address], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(30)


def mlflow_run(
    cwd: Path, environment: dict[str, str], *arguments: str, is_refused: bool = False, **parameters: str
) -> str:
    command = [sys.executable, "-m", "mlflow", "run", *arguments, "--env-manager", "local"]
    for name, value in parameters.items():
        command += ["-P", f"{name}={value}"]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if is_refused else 0), done.stdout
    return done.stdout


@pytest.mark.slow
def test_from_a_git_address_all_lands_where_the_command_was_typed(
    git_address: str, environment: dict[str, str], small_corpus: Path, tmp_path: Path
) -> None:
    typed_in = tmp_path / "typed in"
    typed_in.mkdir()
    data = {"data_root": str(small_corpus)}
    printed = mlflow_run(typed_in, environment, git_address, "-e", "train", **TINY, **data)
    assert f"goes to {typed_in / 'outputs'}" in printed.replace("\n", " ")
    client = MlflowClient(f"sqlite:///{typed_in / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert len(run.data.tags["git.commit"]) == 40
    assert list(typed_in.rglob("*.safetensors"))

    more = {"model": f"runs:/{run.info.run_id}", "track": "LA", "device": "cpu", "num_workers": "0"}
    mlflow_run(typed_in, environment, git_address, "-e", "score", **more, **data)
    assert list((typed_in / "outputs" / "scores").rglob("LA.txt"))
    mlflow_run(typed_in, environment, git_address, "-e", "score", **more, **data, output="mine.txt")
    assert (typed_in / "mine.txt").is_file()


@pytest.mark.slow
def test_store_of_a_relative_address_is_refused_where_it_would_vanish_with_the_clone(
    git_address: str, environment: dict[str, str], small_corpus: Path, tmp_path: Path
) -> None:
    typed_in = tmp_path / "typed in"
    typed_in.mkdir()
    environment |= {"MLFLOW_TRACKING_URI": "sqlite:///x.db"}
    data = {"data_root": str(small_corpus)}
    printed = mlflow_run(typed_in, environment, git_address, "-e", "train", is_refused=True, **TINY, **data)
    (line,) = re.findall("train: MLFLOW_TRACKING_URI: found no (.*)", printed)
    assert "/x.db, expected a whole path" in line
    assert "Traceback" not in printed
    assert [path.name for path in typed_in.iterdir()] == ["x.db"]
    (run,) = MlflowClient(f"sqlite:///{typed_in / 'x.db'}").search_runs(["0"])
    assert run.info.status == "FAILED"


def test_only_a_temporary_clone_has_its_outputs_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    clone, server = tmp_path.resolve() / "tmpab12cd_8", "https://mlflow.example.org"
    store = f"sqlite:///{tmp_path}/typed/mlflow.db"
    assert find_work_root(clone, store) == tmp_path.resolve() / "typed"
    assert find_work_root(clone / "below", store) == tmp_path.resolve() / "typed"
    assert find_work_root(clone, server) == Path.home() / ".xlsr-sls"
    assert find_work_root(clone, "") == clone
    assert find_work_root(tmp_path / "project", store) == tmp_path / "project"


@pytest.mark.slow
def test_experiment_run_name_and_backend_config_are_those_of_the_command(
    store: Path, environment: dict[str, str], small_corpus: Path, tmp_path: Path
) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("mine")
    config = tmp_path / "backend.json"
    config.write_text("{}", encoding="utf-8")
    environment |= {"MLFLOW_TRACKING_URI": client.tracking_uri}
    arguments = ["--experiment-id", experiment, "--run-name", "my data", "--backend", "local"]
    arguments += ["--backend-config", str(config), "-e", "check_data"]
    mlflow_run(tmp_path, environment, str(PROJECT_ROOT), *arguments, data_root=str(small_corpus), track="LA")
    (run,) = client.search_runs([experiment])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my data")
    assert run.data.tags["kind"] == "check_data"


@pytest.mark.slow
def test_below_a_users_own_run_it_stays_its_child(
    store: Path, environment: dict[str, str], small_corpus: Path, tmp_path: Path
) -> None:
    client = MlflowClient()
    parameters = {"data_root": str(small_corpus), "track": "LA"}
    script = NESTED.format(project=str(PROJECT_ROOT), parameters=parameters)
    environment |= {"MLFLOW_TRACKING_URI": client.tracking_uri}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (parent,) = re.findall(r"PARENT (\w+)", done.stdout)
    (child,) = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert (child.info.status, child.data.tags["kind"]) == ("FINISHED", "check_data")
    assert client.get_run(parent).info.status == "FINISHED"


@pytest.mark.slow
def test_a_run_of_ones_own_is_taken_over_by_its_id(
    store: Path, environment: dict[str, str], small_corpus: Path
) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("mine")
    run_id = client.create_run(experiment, run_name="a study").info.run_id
    environment |= {"MLFLOW_TRACKING_URI": client.tracking_uri, "MLFLOW_RUN_ID": run_id}
    command = [
        sys.executable,
        "-m",
        "entrypoints.check_data",
        "--data_root",
        str(small_corpus),
        "--track",
        "LA",
    ]
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name, run.info.experiment_id) == ("FINISHED", "a study", experiment)
    assert run.data.tags["kind"] == "check_data"
