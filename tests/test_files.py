"""Files written whole or not at all, and held by one process at a time."""

import errno
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sls import files
from sls.files import (
    check_is_place,
    file_digest,
    looked_in,
    scratch_directory,
    write_whole,
)


def test_a_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf")


def test_where_one_looked_is_told_of_a_relative_path_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert looked_in("data") == f" (looked in {tmp_path})"
    assert looked_in("/data") == looked_in(Path("/data")) == ""


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


def make_device(path: Path) -> None:
    """A node as `/dev/null` is, with no driver behind it, so that nothing is lost if it is written to."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices are made by root alone")  # pipe, socket, link and directory are tried by anybody


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


MADE = {
    "the directory": Path.mkdir,
    "the pipe, socket or device": os.mkfifo,
    "the pipe, socket or device ": make_device,
    "the pipe, socket or device  ": make_socket,
    "the link": lambda path: path.symlink_to(__file__),
    "the link ": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("found", MADE)
def test_what_is_no_file_is_refused_as_a_place_for_one(tmp_path, found: str) -> None:
    path = tmp_path / "scores.txt"
    MADE[found](path)
    kind = path.lstat().st_mode
    with pytest.raises(ValueError, match=rf"^output: found {found.strip()} {re.escape(str(path))}\b"):
        check_is_place(path, "output")
    assert path.lstat().st_mode == kind


def test_place_below_what_is_no_directory_or_is_read_only_is_refused(tmp_path, monkeypatch) -> None:
    check_is_place(tmp_path / "a" / "b" / "scores.txt", "output")
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("nowhere")
    check_is_place(tmp_path / "file", "output")
    for name in ("file", "broken"):
        with pytest.raises(ValueError, match=rf"^output: found {tmp_path}/{name}\b.*/deep/scores\.txt"):
            check_is_place(tmp_path / name / "deep" / "scores.txt", "output")
    with pytest.raises(ValueError, match=r"^output: found a name of 250 characters"):
        check_is_place(tmp_path / ("x" * 250), "output")
    # As root may write everywhere, the system's answer stands in for a read-only directory.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match=rf"^output: found {tmp_path}, which cannot be written to"):
        check_is_place(tmp_path / "a" / "scores.txt", "output")
