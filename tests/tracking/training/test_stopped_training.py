"""Training through the door: killed, stopped and resumed; and in two processes. Compared with an undisturbed run."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from mlflow import MlflowClient
from mlflow.entities import Run

from sls.config import PROJECT_ROOT
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.registry.checkpoints import checkpoints_of
from sls.tracking.sender import send_journal
from tests.signalled_door import signalled

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


AFTER_STEP = "sls.tracking.training.recorder:TrainingRecorder.after_step"
"""Keeps a state in every second step."""
TORCHRUN = ("-m", "torch.distributed.run")
TWO_PROCESSES = (*TORCHRUN, "--standalone", "--nproc_per_node=2", "-m")


def start(
    arguments: list[str], launcher: tuple[str, ...] = ("-m",), **variables: str
) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "entrypoints.train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    errors = process.communicate(timeout=400)[1]
    assert process.returncode == expected, errors
    return errors


def start_nodes(
    *arguments: list[str], journals: Path, before_the_second: tuple[str, ...] = ()
) -> list[subprocess.Popen[str]]:
    """Starts a launch over as many machines, which share no more than the corpus and the store."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nodes = []
    for rank, own in enumerate(arguments):
        place = ("--master_addr=127.0.0.1", f"--master_port={port}", f"--nnodes={len(arguments)}")
        launcher = (*TORCHRUN, *place, f"--node_rank={rank}", "--nproc_per_node=1", "-m")
        launcher += before_the_second if rank == 1 else ()
        nodes.append(start(own, launcher, SLS_JOURNAL_DIR=str(journals / f"node{rank}")))
    return nodes


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


def states(store: Path) -> dict[Path, int]:
    """The states that the store keeps, with the time of each; unlike `rglob`, `walk` minds no file that goes."""
    found = {}
    for directory, _, names in os.walk(store.parent / "mlruns"):
        for name in names:
            if Path(directory).name == "state" and name.endswith(".pt"):
                with suppress(FileNotFoundError):
                    found[Path(directory, name)] = Path(directory, name).stat().st_mtime_ns
    return found


@pytest.fixture
def spaced_corpus(tmp_path: Path) -> Path:
    """A corpus in the lists of `configs/csv.tracks.yaml`, whose names have spaces, also beside each other."""
    root, rng = tmp_path / "my corpus", np.random.default_rng(2)
    (root / "wav" / "a speaker").mkdir(parents=True)
    for subset in ("train", "dev"):
        lines = ["file,reader,system,class"]
        for index in range(12):
            name = f"a speaker/{subset} clip  {index}.wav"
            noise = rng.normal(0, 0.1 + 0.3 * (index % 2), 9_000)
            soundfile.write(root / "wav" / name, noise.clip(-1, 1), 16_000)
            lines.append(f"{name},anna,-,{('fake', 'real')[index % 2]}")
        (root / f"{subset}.csv").write_text("\n".join([*lines, ""]))
    return root


def test_killed_stopped_and_resumed_it_gives_the_losses_of_an_undisturbed_run(
    store: Path, options: list[str], spaced_corpus: Path, tmp_path: Path, monkeypatch
) -> None:
    """On a corpus whose names have spaces, which is in every list and state on the way."""
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path / "journal"))
    client = MlflowClient()
    options = [*options, "--data_root", str(spaced_corpus), "--tracks", "configs/csv.tracks.yaml"]
    finish(start(options))
    whole = newest_run(client)
    assert whole.info.status == "FINISHED"

    # There are 6 steps in each of the 4 epochs: the kill comes in the first, the signal in the second.
    finish(start(options, ("-m", *signalled(AFTER_STEP, 4, signal.SIGKILL))), expected=-signal.SIGKILL)
    run_id = newest_run(client).info.run_id
    assert run_id != whole.info.run_id

    # As `timeout` or Slurm do, the workers of the loader too.
    terminated = ("-m", *signalled(AFTER_STEP, 5, signal.SIGTERM))
    errors = finish(start(["--resume", run_id, "--num_workers", "2"], terminated), expected=143)
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

    assert not list(store.parent.rglob("*state.pt"))

    errors = finish(start(["--resume", run_id]), expected=2)
    assert f"run {run_id} has finished" in errors
    assert client.get_run(run_id).info.status == "FINISHED"


def test_two_machines_stopped_and_resumed_give_the_losses_of_one_process(
    store: Path, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    client = MlflowClient()
    arguments = [*options, "--batch_size", "4"]
    finish(start(arguments))
    alone = newest_run(client).info.run_id

    terminated = signalled(AFTER_STEP, 4, signal.SIGTERM)
    first, second = start_nodes(arguments, arguments, journals=tmp_path, before_the_second=terminated)
    finish(second, expected=1)
    finish(first, expected=1)
    run = newest_run(client)
    assert run.info.status == "KILLED"

    resume = ["--resume", run.info.run_id]
    for node in start_nodes(resume, resume, journals=tmp_path):
        finish(node)
    experiment = client.get_experiment_by_name("xlsr-sls")
    assert len(client.search_runs([experiment.experiment_id])) == 2
    for name in METRICS:
        one, two = (histories(client, run_id)[name] for run_id in (alone, run.info.run_id))
        assert [step for step, _ in two] == [step for step, _ in one]
        assert [value for _, value in two] == pytest.approx([value for _, value in one], rel=1e-5)
    assert client.get_metric_history(alone, "system/cpu_utilization_percentage")
    for machine in ("node_0", "node_1"):
        name = f"system/{machine}/cpu_utilization_percentage"
        points = client.get_metric_history(run.info.run_id, name)
        steps = [point.step for point in points]
        assert steps
        assert len(steps) == len(set(steps)), machine


def test_a_machine_that_fails_or_is_killed_ends_the_others_with_a_line(
    store: Path, options: list[str], tmp_path: Path
) -> None:
    client = MlflowClient()
    line = "data_root: no directory /nowhere"
    first, second = start_nodes(options, [*options, "--data_root", "/nowhere"], journals=tmp_path)
    assert line in finish(second, expected=1)
    assert f"train: rank 1: {line}" in finish(first, expected=1)
    assert newest_run(client).data.tags["error"].startswith(f"rank 1: {line}")

    first, second = start_nodes(options, [*options, "--lr", "0.5"], journals=tmp_path)
    for node in (first, second):
        assert re.search(r"train: lr: found 0\.001 .*\b0\.5 .*rank 1\b", finish(node, expected=1))

    seen = states(store)
    endless = [*options, "--num_epochs", "1000", "--patience", "1000"]
    first, second = start_nodes(endless, endless, journals=tmp_path)
    wait_for(lambda: states(store) != seen, first)
    psutil.Process(second.pid).children()[0].kill()
    finish(second, expected=1)
    errors = finish(first, expected=1)
    run = newest_run(client)
    assert f"resume={run.info.run_id} " in errors
    assert re.search("train: .*process .*gone", errors)
    assert run.info.status == "FAILED"


def test_processes_resume_together_what_is_still_in_a_journal(store: Path, options: list[str]) -> None:
    client = MlflowClient()
    endless = [*options, "--num_epochs", "1000", "--patience", "1000"]
    process = start(endless, TWO_PROCESSES, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    wait_for(lambda: [path for path in find_journals() if list(path.glob("files/*/state.pt"))], process)
    workers = psutil.Process(process.pid).children()
    process.kill()
    for worker in workers:
        worker.kill()
    process.communicate()
    (journal,) = find_journals()
    psutil.wait_procs(workers)

    seen = states(store)
    process = start(["--resume", journal.name.rpartition("-")[2]], TWO_PROCESSES)
    wait_for(lambda: len(set(states(store).values()) - set(seen.values())) > 1, process)
    process.send_signal(signal.SIGTERM)
    finish(process, expected=1)
    for path in find_journals():  # what a busy machine did not send within the seconds that a signal leaves
        send_journal(path)
    run = newest_run(client)
    assert run.info.status == "KILLED"
    steps = [step for step, _ in histories(client, run.info.run_id)["train/loss"]]
    assert steps == list(range(len(steps)))
