"""Runs through a server that goes away, with a real `mlflow server` that is killed and started again."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import ignore_patterns as ignore
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from sls.config import PROJECT_ROOT
from sls.data.tables.columns import Texts
from sls.data.tables.protocols import Protocol
from sls.files import scratch_directory
from sls.tracking import active_run, sender
from sls.tracking.active_run import tracked_run
from sls.tracking.artifacts import download_state
from sls.tracking.offline.journal import Journal
from sls.tracking.offline.journal_files import (
    END,
    find_journals,
    journal_directory,
    read_entries,
    read_position,
)
from sls.tracking.offline.server_calls import short_calls
from sls.tracking.registry.checkpoints import resolve_model
from sls.tracking.run import TrackedRun
from sls.tracking.sender import RecordingsRefused, send_journal
from sls.tracking.store import find_run
from tests.servers import Server

FIGURES = ("train/loss", "val/loss")
HOLDS_A_LOCK = """
import sys
from pathlib import Path
from sls.processes import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is not started yet; doors find it by the environment."""
    server = Server(tmp_path, store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(sender, "RETRY_DELAY_S", 0.5)
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
        handle = run.log_model(f"epoch_{epoch}", epoch, tags, tags, files=directory)
    run.log_metrics(dict.fromkeys(FIGURES, 1 / (1 + epoch)), epoch, handle)
    with run.staging() as directory:
        (directory / "state.bin").write_bytes(b"state after %d" % epoch)
        run.keep_state(directory, "state", epoch + 1, 0)
    return handle


def assert_whole(num_epochs: int, kept: set[int], status: str = "FINISHED", name: str = "%") -> None:
    """Everything that `log_epoch` recorded is on the server, once; in the experiments of that name."""
    client = MlflowClient()
    places = client.search_experiments(filter_string=f"name LIKE '{name}'")
    runs = client.search_runs([experiment.experiment_id for experiment in places])
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
    with scratch_directory() as directory:
        download_state(client, run.info.run_id, "state", directory)
        assert (directory / "state.bin").read_bytes() == b"state after %d" % (num_epochs - 1)


def record_training(run: TrackedRun, num_epochs: int, before_epoch=lambda epoch: None) -> None:
    protocol = Protocol(Path("protocol.txt"), "0" * 64, Texts.encode(["T_1"]), np.array([0], np.int8))
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
    assert [re.search(r"\b(away|back)\b", message).group() for message in said] == ["away", "back"]


@pytest.mark.slow
def test_server_away_for_good_and_synchronised_later_by_one_of_two(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(sender, "AWAY_PATIENCE_S", 0.5)
    with tracked_run("train", journal=True) as run:
        record_training(run, 3)
    (path,) = find_journals(run.run_id)
    assert len(list((path / "files").glob("*/checkpoint.safetensors"))) == 1
    assert len(list((path / "files").glob("*/state.bin"))) == 1
    sync = [sys.executable, "-m", "entrypoints.sync"]
    away = subprocess.run(sync, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert away.returncode == 1
    assert "server is away" in away.stderr
    assert len(away.stderr.splitlines()) == 1
    server.start()
    journal = Journal(path)
    held = subprocess.run(sync, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert held.returncode == 0  # this process sends it
    assert f"process {os.getpid()} on" in held.stdout
    journal.close()
    both = [subprocess.Popen(sync, cwd=PROJECT_ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate()
    assert 0 in {process.returncode for process in both}
    assert_whole(3, {2})
    assert find_journals() == []
    assert find_run(MlflowClient(), run.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_everything_sent_twice_is_there_once(store, tmp_path, monkeypatch) -> None:
    copy = tmp_path / "copy"
    append = Journal.append

    def append_and_copy(journal: Journal, *arguments: Any) -> None:
        with journal.changed:  # so that nothing is sent, and gone, before it is copied
            append(journal, *arguments)
            shutil.copytree(
                journal.path, copy / journal.path.name, dirs_exist_ok=True, ignore=ignore("lock", "staging*")
            )

    monkeypatch.setattr(Journal, "append", append_and_copy)
    with tracked_run("train", journal=True) as run:
        record_training(run, 3)
    assert find_journals() == []
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(copy))
    (path,) = find_journals(run.run_id) or find_journals()
    (path / "position.json").unlink(missing_ok=True)
    sent = send_journal(path)
    assert sent.run_id == run.run_id
    assert (sent.num_sent > 15, sent.num_refused) == (True, 0)
    assert_whole(3, {2})


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


def kill_once_at_each_call(path: Path, patches: pytest.MonkeyPatch) -> set[tuple[int, int, str]]:
    """Kills what sends a journal before and after each call to the server and each note of what was sent.

    Returns the set of these moments, by entry, to which it adds; each is met once.
    """
    met: set[tuple[int, int, str]] = set()
    calls = [0]

    def wrap(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            entry = read_position(path).next
            calls[0] += 1
            number = calls[0]
            kill_at(entry, number, "before")
            result = function(*arguments, **options)
            kill_at(entry, number, "after")
            return result

        return call

    def kill_at(*moment: Any) -> None:
        if moment not in met:
            met.add(moment)
            calls[0] = 0
            raise Killed

    def send_next(sender_: sender.Sender, original: Any = sender.Sender.send_next) -> None:
        calls[0] = 0
        original(sender_)

    patches.setattr(sender.Sender, "send_next", send_next)
    names = ["get_run", "create_run", "set_tag", "log_batch", "log_inputs", "log_outputs", "set_terminated"]
    names += ["create_logged_model", "finalize_logged_model", "set_logged_model_tags"]
    owners = [(MlflowClient, name) for name in names]
    owners += [(os, "link"), (Journal, "mark_sent"), (Journal, "mark_opened")]
    owners += [(LocalArtifactRepository, name) for name in ("log_artifact", "delete_artifacts")]
    for owner, name in owners:
        patches.setattr(owner, name, wrap(getattr(owner, name)))
    return met


@pytest.mark.slow
def test_sending_killed_at_each_call_leaves_nothing_out_and_nothing_twice(store, monkeypatch) -> None:
    with monkeypatch.context() as away:
        away.setattr(sender, "AWAY_PATIENCE_S", 0.0)
        away.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
        with tracked_run("train", journal=True) as run:
            record_training(run, 2)
    (path,) = find_journals(run.run_id)
    with monkeypatch.context() as patches:
        met = kill_once_at_each_call(path, patches)
        # It goes when all of it was sent and nothing refused.
        while find_journals():
            before = len(met)
            with suppress(Killed):
                send_journal(path)
            assert not find_journals() or len(met) == before + 1
    assert len(met) > 100
    assert_whole(2, {1})


@pytest.mark.slow
def test_server_that_never_answers_costs_the_training_nothing(store, monkeypatch) -> None:
    """No step waits for a call that hangs, and what was recorded meanwhile is on the disk."""
    answer, asked = threading.Event(), threading.Event()
    log_batch = MlflowClient.log_batch

    def hang(client: MlflowClient, run_id: str, **records: Any) -> None:
        asked.set()
        assert answer.wait(60)
        log_batch(client, run_id, **records)

    with tracked_run("train", journal=True) as run:
        monkeypatch.setattr(MlflowClient, "log_batch", hang)
        record_training(run, 3)
        assert asked.wait(60)
        assert not answer.is_set()
        (path,) = find_journals(run.run_id)
        entries, _ = read_entries(path, read_position(path))
        assert sum(entry.call == "_log_metrics" for entry in entries) == 12
        assert [file.read_bytes() for file in path.rglob("state.bin")] == [b"state after 2"]
        answer.set()
    assert_whole(3, {2})


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_server_that_hangs(store, monkeypatch) -> None:
    """Slurm and Docker leave a process some seconds after their signal; what is not sent stays on the disk."""
    monkeypatch.setattr(active_run, "SIGNAL_LIMIT_S", 0.2)
    answer, hangs = threading.Event(), []
    try:
        with suppress(KeyboardInterrupt), tracked_run("train", journal=True) as run:
            monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, **__: hangs.append(not answer.wait(60)))
            record_training(run, 1)
            raise KeyboardInterrupt
        assert not any(hangs)  # none has waited to its end
        assert find_journals(run.run_id)
    finally:
        answer.set()


def test_the_end_waits_for_a_slow_answer_of_a_server_that_failed_just_before(store, monkeypatch) -> None:
    monkeypatch.setattr(sender, "AWAY_PATIENCE_S", 0.05)
    monkeypatch.setattr(sender, "RETRY_DELAY_S", 0.0)
    send_next, answers = sender.Sender.send_next, iter(["fails", "slow"])

    def answer(self: sender.Sender) -> None:
        kind = next(answers, "quick")
        if kind == "fails":
            raise OSError("no route")
        if kind == "slow":
            time.sleep(0.5)
        send_next(self)

    with tracked_run("train", journal=True) as run:
        while run.journal.pending:
            time.sleep(0.01)
        monkeypatch.setattr(sender.Sender, "send_next", answer)
        run.log_metrics({"train/loss": 1.0})
    assert MlflowClient().get_run(run.run_id).info.status == "FINISHED"
    assert find_journals() == []


KILLED_TRAINING = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
from test_sender import record_training
from sls.tracking.active_run import tracked_run
with tracked_run("train", journal=True) as run:
    record_training(run, 3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_training_killed_while_the_server_is_away_is_sent_and_resumed(server: Server) -> None:
    script = KILLED_TRAINING.format(tests=str(Path(__file__).parent), root=str(PROJECT_ROOT))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (path,) = find_journals()
    content = (path / "entries.jsonl").read_bytes()
    (path / "entries.jsonl").write_bytes(content.removesuffix(END) + b'{"number": 99, "kind": "met')
    server.start()
    sent = send_journal(path)
    assert re.search(rf"entries\.jsonl:{len(content.splitlines())}: found", sent.damage)
    assert sent.num_refused == 0
    assert_whole(3, {2}, "RUNNING")
    with tracked_run("train", journal=True, resume=sent.run_id) as run:
        assert run.run_id == sent.run_id
        handle = log_epoch(run, 3)
        run.delete_checkpoint(handle)
    assert_whole(4, {2})
    tags = MlflowClient().get_run(run.run_id).data.tags
    assert tags["kind"] == "train"
    assert tags["resumed.git.commit"] == tags["git.commit"]


def test_resumed_run_first_sends_what_its_journal_still_holds(store, monkeypatch) -> None:
    client = MlflowClient()
    launched = client.create_run("0").info.run_id
    with monkeypatch.context() as away:
        away.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
        away.setattr(sender, "AWAY_PATIENCE_S", 0.1)
        with suppress(KeyboardInterrupt), tracked_run("train", journal=True) as run:
            run.log_metrics({"train/loss": 1.0}, 0)
            raise KeyboardInterrupt
        assert len(find_journals(run.run_id)) == 1
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    with tracked_run("train", journal=True, resume=run.run_id) as resumed:
        run_id = resumed.run_id
        assert client.get_run(run_id).info.status == "RUNNING"
        assert [item.value for item in client.get_metric_history(run_id, "train/loss")] == [1.0]
        resumed.log_metrics({"train/loss": 0.5}, 1)
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["error"] == ""
    assert [item.value for item in client.get_metric_history(run_id, "train/loss")] == [1.0, 0.5]
    former = client.get_run(launched)
    assert (former.info.status, former.data.tags["resumed_run_id"]) == ("FINISHED", run_id)
    assert find_journals() == []


def test_a_run_whose_making_was_not_answered_is_resumed_by_the_id_that_it_has_on_the_server(
    store, monkeypatch
) -> None:
    create_run, made = MlflowClient.create_run, []

    def make_and_close(client: MlflowClient, *arguments: Any, **named: Any) -> None:
        if not made:
            made.append(create_run(client, *arguments, **named).info.run_id)
        raise OSError("closed")

    with monkeypatch.context() as away:
        away.setattr(sender, "AWAY_PATIENCE_S", 0.1)
        away.setattr(MlflowClient, "create_run", make_and_close)
        away.setattr("sls.tracking.writer.find_by_journal", lambda *_: None)
        away.setattr(sender, "RETRY_DELAY_S", 60.0)
        with suppress(KeyboardInterrupt), tracked_run("train", journal=True) as run:
            run.log_metrics({"train/loss": 1.0}, 0)
            raise KeyboardInterrupt
    (run_id,) = made
    assert run_id != run.run_id
    assert MlflowClient().get_metric_history(run_id, "train/loss") == []
    with tracked_run("train", journal=True, resume=run_id) as resumed:
        history = MlflowClient().get_metric_history(run_id, "train/loss")
        assert [item.value for item in history] == [1.0]
        resumed.log_metrics({"train/loss": 0.5}, 1)
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"
    assert find_journals() == []


@pytest.mark.slow
def test_run_is_resumed_by_one_of_two_that_begin_at_once(store) -> None:
    """Of two that look for its journals before the other has made one."""
    with pytest.raises(KeyboardInterrupt), tracked_run("train", journal=True) as run:
        raise KeyboardInterrupt
    lock = journal_directory() / f"run {run.run_id}"
    command = [sys.executable, "-c", HOLDS_A_LOCK, str(lock)]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(ValueError, match=rf"run {run.run_id}: found process {other.pid}\b"),
            tracked_run("train", journal=True, resume=run.run_id),
        ):
            pytest.fail("the block ran")
        other.communicate()
    with tracked_run("train", journal=True, resume=run.run_id):
        assert lock.with_name(f"{lock.name}.lock").is_file()
    assert run.client.get_run(run.run_id).info.status == "FINISHED"


def test_refused_entry_is_kept_and_the_rest_is_sent(store, caplog) -> None:
    with pytest.raises(RecordingsRefused, match=r"\b1 of"), tracked_run("train", journal=True) as run:
        [run.log_metrics(metric) for metric in ({"not/valid/%": 1.0}, {"train/loss": 1.0})]
    found = MlflowClient().get_run(run.run_id)
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"train/loss": 1.0}
    (path,) = find_journals(run.run_id)
    assert found.data.tags["refused"].startswith("entries ")
    assert sum("(log_metrics) " in record.message for record in caplog.records) == 1
    assert send_journal(path).num_refused == 1


@pytest.mark.slow
def test_nothing_is_removed_while_what_was_to_replace_it_is_not_there(store, monkeypatch) -> None:
    """The server holds a state that goes with the weights of epoch 0, whatever of later ones never comes."""
    is_away = threading.Event()
    send_next = sender.Sender.send_next
    with monkeypatch.context() as patches:

        def send(self: sender.Sender) -> None:
            if is_away.is_set():
                raise OSError("no route")
            send_next(self)

        def refuse(*unused: Any) -> None:
            raise MlflowException("no such place", ErrorCode.Value("INVALID_PARAMETER_VALUE"))

        def before_epoch(epoch: int) -> None:
            if epoch == 1:
                while run.journal.pending:
                    time.sleep(0.01)
                is_away.set()
                patches.setattr("sls.tracking.run.upload_state", refuse)
                patches.setattr(sender, "AWAY_PATIENCE_S", 60.0)

        patches.setattr(sender.Sender, "send_next", send)
        with ExitStack() as stack:
            stack.enter_context(pytest.raises(RecordingsRefused))
            run = stack.enter_context(tracked_run("train", journal=True))
            record_training(run, 3, before_epoch)
            is_away.clear()
    client = MlflowClient()
    assert client.get_run(run.run_id).info.status == "FAILED"
    first = resolve_model(client, f"runs:/{run.run_id}/epoch_0")
    assert first.path.read_bytes() == b"weights of 0"
    with scratch_directory() as directory:
        download_state(client, run.run_id, "state", directory)
        assert (directory / "state.bin").read_bytes() == b"state after 0"
    (path,) = find_journals(run.run_id)
    sent = send_journal(path)
    assert (sent.num_refused, sent.is_kept) == (0, False)
    assert_whole(3, {2})
    assert client.get_run(run.run_id).data.tags["refused"] == ""


def test_entry_that_is_refused_without_a_word_is_kept(store, monkeypatch) -> None:
    log_batch = MlflowClient.log_batch

    def refuse_metrics(client: MlflowClient, run_id: str, **records) -> None:
        if "metrics" in records:
            raise TypeError
        log_batch(client, run_id, **records)

    monkeypatch.setattr(MlflowClient, "log_batch", refuse_metrics)
    with pytest.raises(RecordingsRefused), tracked_run("train", journal=True) as run:
        run.log_metrics({"train/loss": 1.0})
    (path,) = find_journals(run.run_id)
    assert list(read_position(path).refused.values()) == ["TypeError"]


@pytest.mark.parametrize("has_journal", [True, False])
def test_what_another_client_records_at_the_same_time_is_tried_once_more(
    store, monkeypatch, has_journal: bool
) -> None:
    """MLflow answers BAD_REQUEST where two clients make the same row, such as a dataset's, in a database."""
    tried = []
    log_batch = MlflowClient.log_batch

    def lose_the_first_race(client: MlflowClient, run_id: str, **records) -> None:
        tried.append(records)
        if len(tried) == 1:
            code = ErrorCode.Value("BAD_REQUEST")
            raise MlflowException('(psycopg2.errors.UniqueViolation) duplicate key, "dataset_pk"', code)
        log_batch(client, run_id, **records)

    monkeypatch.setattr(MlflowClient, "log_batch", lose_the_first_race)
    with tracked_run("train", journal=has_journal) as run:
        run.log_metrics({"train/loss": 1.0})
    found = MlflowClient().get_run(run.run_id)
    assert len(tried) > 1
    assert found.data.metrics == {"train/loss": 1.0}
    assert "refused" not in found.data.tags
    assert find_journals(run.run_id) == []


def closed_port_error() -> MlflowException:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        client = MlflowClient(f"http://127.0.0.1:{probe.getsockname()[1]}")
        with short_calls(), pytest.raises(MlflowException) as caught:
            client.get_run("0" * 32)
    return caught.value


def torn_answer_error() -> MlflowException:
    """What comes of a server that is killed while it answers."""

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        client = MlflowClient(f"http://127.0.0.1:{server.getsockname()[1]}")
        with short_calls(), pytest.raises(MlflowException) as caught:
            client.get_run("0" * 32)
        thread.join()
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (closed_port_error, r".*server is away; .*\(MlflowException: .+\)"),
        (torn_answer_error, r".*server is away; .*\(MlflowException: .+\)"),
        (requests.ReadTimeout("60 s"), r".*server is away; .*\(ReadTimeout: 60 s\)"),
        (PermissionError("no entry"), r"(?!.*away).*\(PermissionError: no entry\)"),
        (AssertionError(), r"(?!.*away).*\(AssertionError\)"),
    ],
    ids=["no-connection", "half-an-answer", "no-answer", "no-permission", "bug"],
)
def test_only_a_server_that_does_not_answer_is_called_away(
    store, monkeypatch, caplog, error: Exception | Callable[[], Exception], said: str
) -> None:
    found = error if isinstance(error, Exception) else error()

    def fail(self: sender.Sender) -> None:
        raise found

    monkeypatch.setattr(sender.Sender, "send_next", fail)
    monkeypatch.setattr(sender, "AWAY_PATIENCE_S", 0.0)
    with tracked_run("train", journal=True) as run:
        run.log_metrics({"train/loss": 1.0}, 0)
    (path,) = find_journals(run.run_id)
    with pytest.raises(ConnectionError, match=f"^{said}$") as caught:
        send_journal(path)
    assert f"entries stay in {path}" in str(caught.value)
    (warning,) = [record.message for record in caplog.records if "the run goes on" in record.message]
    assert re.fullmatch(said, warning)


def test_run_that_the_server_refuses_is_no_run(store, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(MlflowException, match="not found"), tracked_run("train", journal=True):
        pytest.fail("the block ran")
    assert find_journals() == []


def test_unknown_run_cannot_be_resumed(store) -> None:
    with (
        pytest.raises(ValueError, match=r"resume: .*run 1234\b"),
        tracked_run("train", resume="1234"),
    ):
        pytest.fail("the block ran")


def test_a_run_of_another_door_is_not_taken_up(store) -> None:
    with pytest.raises(ZeroDivisionError), tracked_run("train", journal=True) as run:
        raise ZeroDivisionError
    with (
        pytest.raises(ValueError, match=rf"resume: found run {run.run_id} of kind train, expected .* main"),
        tracked_run("main", resume=run.run_id),
    ):
        pytest.fail("the block ran")
    (failed,) = run.client.search_runs(["1"])
    assert failed.info.status == "FAILED"


def test_weights_are_linked_into_a_local_store_and_not_copied(store) -> None:
    with tracked_run("train", journal=True) as run, run.staging() as directory:
        file = directory / "checkpoint.safetensors"
        file.write_bytes(b"weights")
        number = file.stat().st_ino
        run.log_model("epoch_0", 0, {"epoch": "0"}, {}, files=directory)
    (stored,) = store.parent.rglob("checkpoint.safetensors")
    assert stored.stat().st_ino == number
    assert stored.stat().st_nlink == 1


def test_model_whose_weights_were_deleted_says_so(store) -> None:
    with tracked_run("train", journal=True) as run:
        handle = log_epoch(run, 0)
        run.delete_checkpoint(handle)
    with pytest.raises(ValueError, match=rf"runs:/{run.run_id}/epoch_0 .*not kept"):
        resolve_model(MlflowClient(), f"runs:/{run.run_id}/epoch_0")
