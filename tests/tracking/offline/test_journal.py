"""A journal on the disk (`journal`, `journal_files`): whole wherever its process is killed, and held by one."""

import fcntl
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from entrypoints.sync import sync
from sls.config import PROJECT_ROOT
from sls.processes import this_process
from sls.tracking import sender
from sls.tracking.active_run import tracked_run
from sls.tracking.offline.journal import Journal, create_journal
from sls.tracking.offline.journal_files import Opening, Position, find_journals, read_position, seal
from sls.tracking.sender import RecordingsRefused, send_journal
from sls.tracking.signals import Terminated
from sls.tracking.store import find_run

OPENING = Opening(
    source="entrypoints.train",
    name=None,
    tracking_uri="",
    experiment={"id": "", "name": "xlsr-sls"},
    start_ms=0,
    journal_id="abc",
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


class KillsAt:
    """Wraps functions so that the process is killed before one of their calls, counted over all, and after it."""

    def __init__(self, moment: int) -> None:
        self.moment, self.num_moments = moment, 0

    def wrap(self, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self._pass()
            result = function(*arguments, **options)
            self._pass()
            return result

        return call

    def _pass(self) -> None:
        self.num_moments += 1
        if self.num_moments == self.moment:
            raise Killed


def staging_directory(journal: Journal) -> Path:
    return Path(tempfile.mkdtemp(prefix="staging-", dir=journal.path))


def record(journal: Journal) -> int:
    """Appends entries, some with files that a later one makes needless, until killed; returns how many were taken."""
    for number in range(6):
        try:
            files = staging_directory(journal) if number % 3 else None
            if files:
                (files / "state.pt").write_text(str(number))
            journal.append("_keep_state", {"handle": "state", "epoch": number, "batch": 0}, files)
        except Killed:
            return number
    return 6


def test_killed_at_any_moment_the_journal_holds_what_was_taken_in(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    moment, num_taken = 0, -1
    while num_taken < 6:
        moment += 1
        journal = create_journal(OPENING)
        with monkeypatch.context() as patches:
            kills = KillsAt(moment)
            for owner, name in ((os, "fsync"), (Path, "rename"), (shutil, "rmtree")):
                patches.setattr(owner, name, kills.wrap(getattr(owner, name)))
            num_taken = record(journal)
        journal.close()
        left = Journal(journal.path)
        entries = list(left.pending)
        # The one that was being written is there or not.
        assert len(entries) in (num_taken, num_taken + 1)
        assert [entry.arguments["epoch"] for entry in entries] == list(range(len(entries)))
        with_files = [entry for entry in entries if entry.has_files]
        for entry in with_files:
            with left.hold_files(entry) as files:
                text = (files / "state.pt").read_text() if files else None
            assert text == (str(entry.number) if entry is with_files[-1] and entry is entries[-1] else None)
        left.close()
        shutil.rmtree(journal.path)
    assert moment > 20


def test_files_that_are_being_sent_stay_until_they_are(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    journal = create_journal(OPENING)
    record(journal)
    held = journal.pending[5]
    with journal.hold_files(held) as files:
        journal.append("delete_states", {"handle": "state"})
        assert files is not None
        assert (files / "state.pt").read_text() == "5"
    assert not files.exists()
    with journal.hold_files(held) as files:
        assert files is None


def test_create_killed_at_any_moment_leaves_no_half_journal(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    moment, journal = 0, None
    while journal is None:
        moment += 1
        with monkeypatch.context() as patches, suppress(Killed):
            kills = KillsAt(moment)
            for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir")):
                patches.setattr(owner, name, kills.wrap(getattr(owner, name)))
            journal = create_journal(OPENING)
        for path in find_journals():
            Journal(path).close()
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    assert moment > 5


def test_journal_is_held_before_others_can_find_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    rename, holders = Path.rename, []

    def note_holder(path: Path, target: Path) -> Path:
        holders.append((path / "lock").read_text().strip())
        return rename(path, target)

    with monkeypatch.context() as patches:
        patches.setattr(Path, "rename", note_holder)
        journal = create_journal(OPENING)
    assert holders == [this_process()]
    assert find_journals() == [journal.path]


@pytest.mark.parametrize(
    "text", ["", '{"next": 1', "[]", '{"next": 1, "run_id": ""}', seal({"next": "1"}), seal({"ahead": 1})]
)
def test_position_that_cannot_be_read_does_not_block_a_resume(store, monkeypatch, caplog, text: str) -> None:
    """As an older version could leave it at a power cut: the file has its name, and nothing in it."""
    with monkeypatch.context() as away:
        away.setattr(sender, "AWAY_PATIENCE_S", 0.0)
        with suppress(KeyboardInterrupt), tracked_run("train", journal=True) as run:
            run.log_metrics({"train/loss": 1.0}, 0)
            while not run.client.get_metric_history(run.run_id, "train/loss"):
                pass
            away.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
            run.log_metrics({"train/loss": 0.5}, 1)
            raise KeyboardInterrupt
    (path,) = find_journals(run.run_id)
    (path / "position.json").write_text(text)
    journal_id = path.name.rpartition("-")[2]
    with tracked_run("train", journal=True, resume=journal_id) as resumed:
        points = resumed.client.get_metric_history(run.run_id, "train/loss")
        assert [(point.step, point.value) for point in points] == [(0, 1.0), (1, 0.5)]
    assert "position.json cannot be read" in caplog.text
    assert find_journals() == []


def test_journal_of_an_earlier_version_is_named(store, tmp_path) -> None:
    path = tmp_path / "journal" / "20260101-000000-abc"
    path.mkdir(parents=True)
    (path / "entries.jsonl").write_text('{"number": 0, "kind": "open", "payload": {}}\n')
    (path / "position.json").write_text(
        json.dumps(
            {"next": 1, "run_id": "a1", "experiment_id": "0", "writer": "", "models": {}, "refused": {}}
        )
    )
    for names in ("abc", "a1"):
        assert find_journals(names) == [path]
    with pytest.raises(ValueError, match=rf"^{path}: found no .*opening\.json .*, expected"):
        send_journal(path)


def leave_journal(away: pytest.MonkeyPatch, num_others: int = 0) -> Path:
    """Ends a training whose recordings all stay in its journal, and returns that."""
    away.setattr(sender, "AWAY_PATIENCE_S", 0.0)
    away.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
    with tracked_run("train", journal=True) as run:
        run.log_text("num_epochs: 1", "config.yaml")
        run.log_metrics({"train/loss": 1.0})
    assert len(find_journals()) == num_others + 1
    (path,) = find_journals(run.run_id)
    return path


@pytest.mark.parametrize("num_sent", [0, 5])
@pytest.mark.parametrize("num_left", [None, 0, 1])
def test_journal_that_lost_entries_does_not_pass_for_sent(
    store, monkeypatch, num_sent: int, num_left: int | None
) -> None:
    with monkeypatch.context() as away:
        path = leave_journal(away)
    lines = (path / "entries.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["call"] for line in lines[:-1]][3:] == ["_log_files", "_log_metrics", "_end"]
    (path / "position.json").write_text(seal(Position(num_sent, "")))
    (path / "entries.jsonl").unlink()
    if num_left is not None:
        (path / "entries.jsonl").write_text("".join(lines[:num_left]))
    sent = send_journal(path)
    assert "entries.jsonl" in sent.damage
    # Those with files were three at least, of which the position says how many are on the server.
    assert list(read_position(path).refused) == (["2"] if num_sent == 0 else [])
    assert send_journal(path).num_refused == len(read_position(path).refused) <= 1
    assert find_journals() == [path]


JOURNAL_FILES = ("opening.json", "position.json", "entries.jsonl")


def damaged(content: bytes, generator: random.Random, every: int) -> Iterator[tuple[str, bytes | None]]:
    """Yields what a disk or a power cut makes of a file: gone, cut at any byte, or with a byte that is another."""
    yield "gone", None
    yield "garbled", b"[" * 100_000
    for place in range(generator.randrange(every), len(content), every):
        yield f"cut at {place}", content[:place]
        other = bytes([content[place] ^ (1 << generator.randrange(8))])
        yield f"byte {place}", content[:place] + other + content[place + 1 :]


@pytest.mark.slow
def test_damaged_journal_is_kept_or_all_of_it_is_there(store, tmp_path, monkeypatch) -> None:
    """Nothing that was recorded goes silently, and nothing that was not recorded arrives."""
    with monkeypatch.context() as away:
        path = leave_journal(away)
    whole = tmp_path / "whole"
    shutil.copytree(path, whole)
    generator, num_kept, num_tried = random.Random(20), 0, 0
    for name in JOURNAL_FILES:
        for what, content in damaged((whole / name).read_bytes(), generator, every=67):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole, path)
            (path / name).unlink()
            if content is not None:
                (path / name).write_bytes(content)
            found = send_or_name(path)
            num_tried += 1
            if find_journals():
                num_kept += 1
                assert str(path) in found, (name, what)
                assert name in found, (name, what)
            else:
                run = find_run(MlflowClient(), path.name.rpartition("-")[2])
                assert (run.info.status, run.data.metrics) == ("FINISHED", {"train/loss": 1.0}), (name, what)
                assert "refused" not in run.data.tags
            for run in MlflowClient().search_runs(["1"]):
                assert run.data.metrics in ({}, {"train/loss": 1.0}), (name, what)
                MlflowClient().delete_run(run.info.run_id)
    assert num_tried > num_kept > num_tried / 2


def send_or_name(path: Path) -> str:
    """Sends a journal; what is said of it."""
    try:
        sent = send_journal(path)
    except (ValueError, OSError) as error:
        return str(error)
    refused = read_position(path).refused.values() if path.exists() else ()
    return " ".join([str(sent), *refused])


def test_damage_in_the_middle_is_passed_over_and_can_be_mended(store, monkeypatch) -> None:
    with monkeypatch.context() as away:
        path = leave_journal(away)
    content = (path / "entries.jsonl").read_bytes()
    (path / "entries.jsonl").write_bytes(content.replace(b"1.0", b"7.0"))
    sent = send_journal(path)
    assert (sent.num_refused, sent.damage) == (1, "")
    (refusal,) = read_position(path).refused.values()
    assert re.search(r"entries\.jsonl:5: found .*: entry 4 is gone", refusal)
    found = MlflowClient().get_run(sent.run_id)
    assert (found.info.status, found.data.metrics) == ("FAILED", {})
    assert found.data.tags["refused"] == "entries 4"
    (path / "entries.jsonl").write_bytes(content)
    MlflowClient().set_tag(sent.run_id, "kind", "changed since")
    again = send_journal(path)
    assert (again.num_sent, again.num_refused) == (2, 0)
    found = MlflowClient().get_run(sent.run_id)
    assert found.data.tags["kind"] == "changed since"
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"train/loss": 1.0})
    assert found.data.tags["refused"] == ""
    assert find_journals() == []


def test_damaged_journal_keeps_no_other_from_being_sent(store, monkeypatch, capsys) -> None:
    paths = []
    for _ in range(3):
        with monkeypatch.context() as away:
            paths.append(leave_journal(away, len(paths)))
    first, second, _ = sorted(paths)
    (first / "opening.json").write_bytes(b"")
    (second / "position.json").write_bytes(b"")
    (second / "entries.jsonl").write_bytes((second / "entries.jsonl").read_bytes()[:100])
    result = CliRunner().invoke(sync, [])
    assert result.exit_code == 1
    assert find_journals() == [first, second]
    said = result.output + capsys.readouterr().err
    assert f"{first}: found no readable opening.json" in said
    assert f"{second / 'entries.jsonl'}:1: found " in said
    assert len(MlflowClient().search_runs(["1"], "status = 'FINISHED'")) == 1


def test_sync_passes_over_the_journal_of_a_run_at_work_unless_it_is_named(store, monkeypatch) -> None:
    with monkeypatch.context() as away:
        path = leave_journal(away, 0)
    code = (
        "import pathlib, sys; from sls.processes import take_lock; "
        "held = take_lock(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(path / "lock")]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        passed = CliRunner().invoke(sync, [])
        named = CliRunner().invoke(sync, ["--run_id", path.name.rpartition("-")[2]])
        holder.kill()
    assert (passed.exit_code, named.exit_code) == (0, 1)
    assert str(path) in passed.output
    assert find_journals() == [path]


def test_run_goes_on_without_its_damaged_journal_and_says_so(store, monkeypatch, caplog) -> None:
    with monkeypatch.context() as away:
        away.setattr(sender, "AWAY_PATIENCE_S", 0.0)
        with suppress(KeyboardInterrupt), tracked_run("train", journal=True) as run:
            away.setattr(sender.Sender, "send_next", lambda self: (_ for _ in ()).throw(OSError("no route")))
            raise KeyboardInterrupt
    (path,) = find_journals(run.run_id)
    (path / "opening.json").write_bytes(b"")
    with (
        pytest.raises(RecordingsRefused, match=r"opening\.json"),
        tracked_run("train", journal=True, resume=run.run_id) as resumed,
    ):
        resumed.log_metrics({"train/loss": 1.0})
    assert f"{path}: found no readable opening.json" in caplog.text
    found = MlflowClient().get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("FAILED", {"train/loss": 1.0})
    assert "opening.json" in found.data.tags["refused"]
    assert find_journals() == [path]


def test_files_that_somebody_removed_are_named_and_not_passed_over(store, monkeypatch) -> None:
    with monkeypatch.context() as away:
        path = leave_journal(away)
    shutil.rmtree(path / "files" / "000002")
    sent = send_journal(path)
    assert (sent.num_refused, find_journals()) == (1, [path])
    assert "000002 is gone" in read_position(path).refused["2"]
    found = MlflowClient().get_run(sent.run_id)
    assert (found.info.status, found.data.tags["refused"]) == ("FAILED", "entries 2")
    assert found.data.metrics == {"train/loss": 1.0}


@pytest.mark.parametrize("signalled", [KeyboardInterrupt, Terminated])
def test_entry_that_a_signal_cuts_off_leaves_no_trace(tmp_path, monkeypatch, signalled: type) -> None:
    """Most of its time goes into the waiting for the disk, and there the signal arrives."""
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    journal = create_journal(OPENING)
    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(signalled))
        with pytest.raises(signalled):
            journal.append("_set_tags", {"cut": "off"})
    journal.append("_set_tags", {"error": "stopped by a signal"})
    journal.close()
    assert [entry.arguments for entry in Journal(journal.path).pending] == [{"error": "stopped by a signal"}]


def test_a_journal_that_another_process_sends_meanwhile_is_not_made_anew(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    journal = create_journal(OPENING)
    journal.append("_set_tags", {"a": "1"})
    lockf = fcntl.lockf

    def lose(*arguments: Any) -> None:
        lockf(*arguments)
        shutil.rmtree(journal.path, ignore_errors=True)

    monkeypatch.setattr(fcntl, "lockf", lose)
    for _ in ("after it was opened", "before"):
        with pytest.raises(FileNotFoundError, match="abc was sent"):
            Journal(journal.path)
    assert not find_journals()


@pytest.mark.parametrize("has_files", [False, True])
def test_entry_that_a_full_disk_cuts_off_leaves_no_trace(tmp_path, monkeypatch, has_files: bool) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path))
    journal = create_journal(OPENING)
    staged = []
    for name in ("lost", "kept"):
        staged.append(staging_directory(journal))
        (staged[-1] / name).touch()
    lost, kept = staged if has_files else (None, None)
    journal.append("_set_tags", {"a": "1"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (journal.path / "entries.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
    try:
        for files in (lost, None):
            with pytest.raises(OSError, match="too large"):
                journal.append("_log_files", {"lost": "2"}, files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.append("_log_files", {"kept": "3"}, kept)
    journal.close()
    entries = Journal(journal.path).pending
    assert [dict(entry.arguments) for entry in entries] == [{"a": "1"}, {"kept": "3"}]
    with journal.hold_files(entries[1]) as files:
        assert (files and [path.name for path in files.iterdir()]) == (["kept"] if has_files else None)
