"""A path is held by one process at a time."""

import errno
import os
import platform
import re
import signal
import subprocess
import sys

import pytest

from sls.processes import hold_lock, read_holder, this_process

HOLDER = """
import sys, time
from pathlib import Path
from sls.processes import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "scores.txt")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path, holder) -> None:
    expected = f"scores.txt: found process {holder.pid} on {re.escape(platform.node())} "
    with pytest.raises(ValueError, match=expected), hold_lock(tmp_path / "scores.txt"):
        pass


@pytest.mark.parametrize("waits", [False, True])
def test_a_file_system_without_locks_is_not_another_process(tmp_path, monkeypatch, waits: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    path = tmp_path / "scores.txt"
    expected = rf"No locks available: '{re.escape(str(path))}\.lock'"
    with pytest.raises(OSError, match=expected), hold_lock(path, waits):
        pass


def test_another_process_reads_who_holds_a_lock(tmp_path, holder) -> None:
    assert read_holder(tmp_path / "scores.txt") == this_process().replace(
        str(os.getpid()), str(holder.pid), 1
    )
    assert read_holder(tmp_path / "others.txt") == ""


def test_a_killed_holder_leaves_no_lock(tmp_path, holder) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with hold_lock(tmp_path / "scores.txt"):
        assert (tmp_path / "scores.txt.lock").read_text().startswith(f"process {os.getpid()} on ")
    assert not list(tmp_path.iterdir())
