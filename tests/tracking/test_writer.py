"""Two machines at one run: each has its own journals, and shares no more than the tracking store; and killed ones."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient

from entrypoints.sync import sync
from sls.config import PROJECT_ROOT
from sls.tracking import active_run, sender, writer
from sls.tracking.active_run import tracked_run
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.run import TrackedRun
from sls.tracking.sender import send_journal
from sls.tracking.store import experiment_id
from sls.tracking.tags import PROCESS_TAG, WRITER_TAG
from sls.tracking.writer import RunTakenOver, mark_process

NAME = "train/loss"


@pytest.fixture
def machine(store: Path, tmp_path: Path, monkeypatch) -> Callable[[str], None]:
    """Goes on as if on the machine of a name."""

    def switch(name: str) -> None:
        monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path / name))

    switch("A")
    return switch


def steps(run_id: str) -> list[int]:
    return [point.step for point in MlflowClient().get_metric_history(run_id, NAME)]


def log_until_stopped(run: TrackedRun, first_step: int) -> None:
    """Records steps, as a training does, until one is not taken."""
    deadline, step = time.monotonic() + 60, first_step
    while time.monotonic() < deadline:
        run.log_metrics({NAME: 1.0}, step)
        step += 1
        time.sleep(0.05)
    pytest.fail("it went on")


def wait_for_steps(run: TrackedRun, expected: list[int]) -> None:
    deadline = time.monotonic() + 60
    while steps(run.run_id) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def leave_a_journal(monkeypatch, **resumed: str) -> str:
    """Records step 0, then step 1 in vain; the process ends as if it had been killed."""
    with monkeypatch.context() as patches, tracked_run("train", journal=True, **resumed) as run:
        run.log_metrics({NAME: 1.0}, 0)
        wait_for_steps(run, [0])
        patches.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
        patches.setattr(sender, "AWAY_PATIENCE_S", 0.0)
        patches.setattr(TrackedRun, "end", lambda run, status: None)
        run.log_metrics({NAME: 1.0}, 1)
    return run.run_id


def test_the_last_to_resume_goes_on_and_the_earlier_ends_with_a_line(machine, caplog) -> None:
    client = MlflowClient()
    first_run: list[TrackedRun] = []
    writers = []

    def train_first() -> None:
        with tracked_run("train", journal=True) as first:
            first_run.append(first)
            first.log_metrics({NAME: 1.0}, 0)
            wait_for_steps(first, [0])
            machine("B")
            with tracked_run("train", journal=True, resume=first.run_id) as second:
                writers.append(client.get_run(first.run_id).data.tags[WRITER_TAG])
                second.log_metrics({NAME: 1.0}, 1)
                with pytest.raises(RunTakenOver) as stopped:
                    log_until_stopped(first, 1)
                second.log_metrics({NAME: 1.0}, 2)
            raise stopped.value

    with pytest.raises(RunTakenOver) as ended:
        train_first()
    run_id = first_run[0].run_id
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["error"]) == ("FINISHED", "")
    assert steps(run_id) == [0, 1, 2]
    assert [run.data.tags[WRITER_TAG]] == writers
    machine("A")
    (path,) = find_journals(run_id)
    line = str(ended.value)
    for told in (run_id, writers[0].partition(" (journal")[0], str(path)):
        assert told in line
    assert "\n" not in line
    assert not caplog.records


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt], ids=["finished", "stopped"])
def test_a_run_taken_over_is_not_ended_by_the_earlier(machine, caplog, ending) -> None:
    run_ids = []

    def train_first() -> None:
        with tracked_run("train", journal=True) as first:
            run_ids.append(first.run_id)
            machine("B")
            with (
                pytest.raises(ValueError, match="bad"),
                tracked_run("train", journal=True, resume=first.run_id),
            ):
                raise ValueError("bad")
            if ending:
                raise ending

    # Noticed where the last entries are sent.
    with pytest.raises(ending or RunTakenOver):
        train_first()
    run = MlflowClient().get_run(run_ids[0])
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "bad")
    said = [re.match(r"run (\w+) .*process ", record.message).group(1) for record in caplog.records]
    assert said == (run_ids if ending else [])


def test_a_run_around_the_one_taken_over_ends_as_failed(machine) -> None:
    run_ids = []

    def train_within() -> None:
        with tracked_run("main") as outer, tracked_run("train", journal=True) as run:
            run_ids.extend([outer.run_id, run.run_id])
            machine("B")
            with tracked_run("train", journal=True, resume=run.run_id):
                pass
            log_until_stopped(run, 0)

    with pytest.raises(RunTakenOver):
        train_within()
    outer, run = (MlflowClient().get_run(run_id) for run_id in run_ids)
    assert run.info.status == "FINISHED"
    assert outer.info.status == "FAILED"
    assert re.match(rf"run {run.info.run_id} .*process \d", outer.data.tags["error"])
    assert WRITER_TAG not in outer.data.tags


def test_sync_keeps_the_journal_of_a_run_taken_over(machine, monkeypatch, caplog) -> None:
    run_id = leave_a_journal(monkeypatch)
    machine("B")
    with tracked_run("train", journal=True, resume=run_id) as second:
        second.log_metrics({NAME: 1.0}, 1)
    machine("A")
    (path,) = find_journals(run_id)
    refused = CliRunner().invoke(sync)
    assert refused.exit_code == 1
    (line,) = refused.stderr.splitlines()
    assert re.match(rf"sync: run {run_id} .*process \d.*\b1 entries .*{re.escape(str(path))}", line)
    assert steps(run_id) == [0, 1]
    # It is in nobody's way.
    MlflowClient().update_run(run_id, "RUNNING")
    caplog.clear()
    with tracked_run("train", journal=True, resume=run_id) as third:
        third.log_metrics({NAME: 1.0}, 2)
    assert [record.message for record in caplog.records] == [line.removeprefix("sync: ")]
    assert steps(run_id) == [0, 1, 2]
    assert find_journals(run_id) == [path]
    # Without the tag there is no fence.
    MlflowClient().delete_tag(run_id, WRITER_TAG)
    assert send_journal(path).num_sent == 1
    assert find_journals(run_id) == []


def test_an_opening_that_was_left_does_not_take_the_run_back(machine, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt), tracked_run("train", journal=True) as run:
        raise KeyboardInterrupt
    machine("B")
    with monkeypatch.context() as away:
        away.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
        away.setattr(sender, "AWAY_PATIENCE_S", 0.0)
        with tracked_run("train", journal=True, resume=run.run_id):
            pass
    (path,) = find_journals(run.run_id)
    machine("A")
    with tracked_run("train", journal=True, resume=run.run_id) as third:
        with pytest.raises(RunTakenOver, match=rf"entries .*{re.escape(str(path))}"):
            send_journal(path)
        assert third.client.get_run(run.run_id).info.status == "RUNNING"


def test_a_journal_that_was_left_is_sent_before_its_run_is_taken_over(machine, monkeypatch) -> None:
    run_id = leave_a_journal(monkeypatch)
    client = MlflowClient()
    former = client.get_run(run_id).data.tags[WRITER_TAG]
    with tracked_run("train", journal=True, resume=run_id) as run:
        assert steps(run_id) == [0, 1]
        assert client.get_run(run_id).data.tags[WRITER_TAG] != former
        run.log_metrics({NAME: 1.0}, 2)
    assert steps(run_id) == [0, 1, 2]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert find_journals() == []


def test_a_run_without_a_writer_is_sent_and_resumed(machine, monkeypatch) -> None:
    client = MlflowClient()
    run_id = leave_a_journal(monkeypatch)
    client.delete_tag(run_id, WRITER_TAG)
    (path,) = find_journals(run_id)
    assert send_journal(path).num_sent == 1
    assert WRITER_TAG not in client.get_run(run_id).data.tags
    with tracked_run("train", journal=True, resume=run_id) as run:
        run.log_metrics({NAME: 1.0}, 2)
    assert steps(run_id) == [0, 1, 2]
    assert client.get_run(run_id).data.tags[WRITER_TAG].startswith("process ")


def test_of_two_that_found_the_same_writer_one_resumes(machine, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt), tracked_run("train", journal=True) as run:
        raise KeyboardInterrupt
    found = run.client.get_run(run.run_id)
    said = rf"^run {run.run_id} .*process \d+ on \S+ since .*UTC; resume={run.run_id}\b"
    launched = run.client.create_run("0").info.run_id
    with tracked_run("train", journal=True, resume=run.run_id):
        machine("B")
        monkeypatch.setenv("MLFLOW_RUN_ID", launched)
        monkeypatch.setattr(active_run, "find_run", lambda client, run_id: found)
        with (
            pytest.raises(RunTakenOver, match=said),
            tracked_run("train", journal=True, resume=run.run_id),
        ):
            pytest.fail("the block ran")
        assert find_journals() == []
        assert run.client.get_run(run.run_id).info.status == "RUNNING"
    ended = run.client.get_run(launched)
    assert ended.info.status == "FAILED"
    assert re.match(rf"run {run.run_id} .*process \d", ended.data.tags["error"])


def test_a_run_that_was_launched_once_is_not_begun_twice(machine, monkeypatch) -> None:
    launched = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    with pytest.raises(KeyboardInterrupt), tracked_run("train", journal=True):
        raise KeyboardInterrupt
    machine("B")
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)  # as a launcher that starts its command again leaves it
    with (
        pytest.raises(RunTakenOver, match=rf"resume={launched}\b"),
        tracked_run("train", journal=True),
    ):
        pytest.fail("the block ran")


def test_a_server_that_is_away_says_nothing_of_the_writer(machine, monkeypatch) -> None:
    run_id = leave_a_journal(monkeypatch)
    (path,) = find_journals(run_id)
    with monkeypatch.context() as away:
        away.setattr(
            MlflowClient, "get_run", lambda *_: (_ for _ in ()).throw(requests.ConnectionError("no"))
        )
        with pytest.raises(ConnectionError, match=rf"server is away; 1 entries .*{re.escape(str(path))}"):
            send_journal(path)
    assert send_journal(path).num_sent == 1


OPENS_RUNS = """
import sys
from sls.tracking.active_run import tracked_run
with tracked_run("score") as scoring, tracked_run("train", journal=True) as training:
    print(scoring.run_id, training.run_id, flush=True)
    sys.stdin.read()
"""


def status(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.status)


@pytest.mark.slow
def test_runs_of_a_killed_process_are_ended_by_the_next_and_can_be_resumed(store) -> None:
    command = [sys.executable, "-c", OPENS_RUNS]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    at_work, killed = (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT_ROOT,
            env=environment,
        )
        for _ in range(2)
    )
    working, left = at_work.stdout.readline().split(), killed.stdout.readline().split()
    try:
        killed.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # as its parent may leave it
        with tracked_run("evaluate"):
            assert [status(run_id) for run_id in left] == ["KILLED", "KILLED"]
            assert [status(run_id) for run_id in working] == ["RUNNING", "RUNNING"]
            assert "killed" in MlflowClient().get_run(left[0]).data.tags["error"]
        with tracked_run("train", journal=True, resume=left[1]) as run:
            assert status(run.run_id) == "RUNNING"
        assert status(run.run_id) == "FINISHED"
        assert not MlflowClient().get_run(run.run_id).data.tags["error"]
    finally:
        killed.wait()
        at_work.communicate("")
    assert [status(run_id) for run_id in working] == ["FINISHED", "FINISHED"]


def test_only_what_is_certainly_gone_is_ended(store) -> None:
    client = MlflowClient()
    boot, space, process, start = mark_process().split()
    marks = {
        f"{boot} {space} {process} {start}": "RUNNING",
        f"{boot} {space} {process} {int(start) - 1}": "KILLED",
        f"{boot} {space} {2**22 + 1} {start}": "KILLED",
        f"{boot} {space}1 {2**22 + 1} {start}": "RUNNING",
        f"{'0' * len(boot)} {space} {2**22 + 1} {start}": "RUNNING",
        "": "RUNNING",
    }
    run_ids = [
        client.create_run(experiment_id(client), tags={PROCESS_TAG: mark}).info.run_id for mark in marks
    ]
    with tracked_run("evaluate"):
        assert dict(zip(marks, map(status, run_ids), strict=True)) == marks


def test_a_run_whose_end_is_still_to_be_sent_does_not_become_a_killed_one(machine, monkeypatch) -> None:
    with monkeypatch.context() as patches, tracked_run("train", journal=True) as run:
        patches.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
        patches.setattr(sender, "AWAY_PATIENCE_S", 0.0)
    client = MlflowClient()
    mark = client.get_run(run.run_id).data.tags[PROCESS_TAG]
    client.set_tag(run.run_id, PROCESS_TAG, f"{mark}1")
    writer.end_killed_runs(TrackedRun(client, run.run_id))
    assert status(run.run_id) == "RUNNING"
    (path,) = find_journals(run.run_id)
    send_journal(path)
    assert status(run.run_id) == "FINISHED"


def test_a_server_that_fails_in_the_search_for_killed_runs_is_no_matter(store, monkeypatch) -> None:
    search = MlflowClient.search_runs

    def fail(client: MlflowClient, places: list[str], condition: str = "", *rest, **options):
        if PROCESS_TAG in condition:
            raise requests.ConnectionError("away")
        return search(client, places, condition, *rest, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", fail)
    with tracked_run("evaluate") as run:
        pass
    assert status(run.run_id) == "FINISHED"
