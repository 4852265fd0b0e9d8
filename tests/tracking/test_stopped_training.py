"""Training through the door: killed, stopped and resumed; and in two processes. Compared with an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sls.config import PROJECT_ROOT
from sls.tracking.checkpoints import checkpoints_of

pytestmark = pytest.mark.slow
METRICS = ("train/loss", "train/accuracy", "train/lr", "val/loss", "val/eer_percent", "train/step_loss")


@pytest.fixture
def options(small_corpus: Path) -> list[str]:
    values = {
        "config": "configs/v2.yaml",
        "data_root": small_corpus,
        "xlsr_model": "random:tiny",
        "device": "cpu",
        "audio_max_len": 8000,
        "batch_size": 2,
        "lr": 1e-3,
        "num_epochs": 4,
        "num_workers": 0,
        "log_every_steps": 3,
        "save_every_steps": 2,
        "ema_decay": 0.9,
        "schedule": "cosine",
    }
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def start(arguments: list[str], launcher: tuple[str, ...] = ("-m",)) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "entrypoints.train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    errors = process.communicate(timeout=400)[1]
    assert process.returncode == expected, errors
    return errors


def newest_run(client: MlflowClient) -> Run:
    experiment = client.get_experiment_by_name("xlsr-sls")
    return client.search_runs([experiment.experiment_id])[0]


def histories(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Every point of every metric that does not depend on the clock, in the order of steps."""
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))
        for name in METRICS
    }


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def manifests(store: Path) -> dict[Path, int]:
    found = store.parent.rglob("state-*/manifest.json")
    return {path: path.stat().st_mtime_ns for path in found}


def test_killed_stopped_and_resumed_it_gives_the_losses_of_an_undisturbed_run(
    store: Path, options: list[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path / "journal"))
    client = MlflowClient()
    finish(start(options))
    whole = newest_run(client)
    assert whole.info.status == "FINISHED"

    seen = manifests(store)
    process = start(options)
    wait_for(lambda: manifests(store) != seen, process)
    process.kill()
    process.communicate()
    run_id = newest_run(client).info.run_id
    assert run_id != whole.info.run_id

    seen = manifests(store)
    process = start(["--resume", run_id, "--num_workers", "2"])
    wait_for(lambda: manifests(store) != seen, process)
    os.killpg(process.pid, signal.SIGTERM)  # as `timeout` or Slurm do, the workers of the loader too
    errors = finish(process, expected=143)
    assert f"-P resume={run_id}" in errors
    assert client.get_run(run_id).info.status == "KILLED"

    finish(start(["--resume", run_id]))
    resumed = client.get_run(run_id)
    assert resumed.info.status == "FINISHED"
    assert histories(client, run_id) == histories(client, whole.info.run_id)
    assert resumed.data.tags["chosen_epoch"] == whole.data.tags["chosen_epoch"]
    kept = {int(resumed.data.tags["chosen_epoch"]), 3}
    for run in (resumed, whole):
        models = checkpoints_of(client, run)
        assert set(models) == {0, 1, 2, 3}
        assert {epoch for epoch, model in models.items() if model.tags.get("weights") != "deleted"} == kept
    weights = sorted(path.name for path in store.parent.rglob("models/*/artifacts/*.safetensors"))
    assert len(weights) == 2 * len(kept)

    assert not list(store.parent.rglob("state.pt"))

    errors = finish(start(["--resume", run_id]), expected=2)
    assert f"run {run_id} has finished" in errors
    assert client.get_run(run_id).info.status == "FINISHED"


def test_two_processes_give_the_losses_of_one(store: Path, options: list[str]) -> None:
    client = MlflowClient()
    arguments = [*options, "--num_epochs", "2", "--batch_size", "4"]
    finish(start(arguments))
    alone = newest_run(client).info.run_id
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    finish(start(arguments, launcher))
    together = newest_run(client).info.run_id
    experiment = client.get_experiment_by_name("xlsr-sls")
    assert len(client.search_runs([experiment.experiment_id])) == 2
    for name in ("train/loss", "val/loss"):
        one, two = (histories(client, run_id)[name] for run_id in (alone, together))
        assert [step for step, _ in two] == [0, 1]
        assert [value for _, value in two] == pytest.approx([value for _, value in one], abs=1e-5)
