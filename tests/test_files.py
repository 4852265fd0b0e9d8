"""Files written whole or not at all, and held by one process at a time."""

import errno
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sls import files
from sls.files import (
    file_digest,
    hold_lock,
    read_holder,
    scratch_directory,
    this_process,
    write_whole,
)

HOLDER = """
import sys, time
from pathlib import Path
from sls.files import hold_lock
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


def test_a_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf")


def test_a_block_that_fails_writes_nothing(tmp_path: Path) -> None:
    def write(fail: Callable[[], None]) -> None:
        with write_whole(tmp_path / "new" / "a") as temporary:
            temporary.write_text("half")
            fail()

    with pytest.raises(ZeroDivisionError):
        write(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    assert not list((tmp_path / "new").iterdir())
    write(lambda: None)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_full_temporary_directory_is_named(monkeypatch, tmp_path, kind) -> None:
    error = kind(f"writing: {os.strerror(errno.ENOSPC)}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    free = [0]
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    with pytest.raises(OSError, match=rf"No space left on device.*{tmp_path}/sls-"), scratch_directory():
        raise error
    free[0] = 1 << 30  # another disk is full
    with pytest.raises(type(error)) as caught, scratch_directory():
        raise error
    assert caught.value is error
