"""Files: written whole or not at all, told apart by their content, held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, and renames it to `path` if the block ends without an error.

    The content is on disk before it has the name, so that the name never points to half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        # Not gone yet where the block failed, or where both were links to one file: that rename does nothing.
        temporary.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory for files on their way to another place; it goes with the block."""
    with tempfile.TemporaryDirectory(prefix="sls-") as path:
        yield Path(path)


def check_is_file(path: Path, parameter: str = "", expected: str = "a regular file") -> None:
    """Refuses what is no regular file; a pipe, for one, can be read once only.

    Args:
        path: what the user named.
        parameter: by which parameter, for the error; empty for a file that was found.
        expected: what should be there, for the error.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: there is a directory, a pipe or a device.
    """
    if path.is_file():
        return
    where = f"{parameter}: {path}" if parameter else str(path)
    if not path.exists():
        raise FileNotFoundError(f"{where}: no such file (looked in {Path.cwd()}), expected {expected}")
    found = "a directory" if path.is_dir() else "a pipe or a device"
    raise ValueError(f"{where}: found {found}, expected {expected}")


@contextmanager
def hold_lock(path: Path, waits: bool = False) -> Iterator[None]:
    """Holds `PATH.lock` for the duration of a `with` block; the system frees it if the process is killed.

    It is a POSIX record lock: worker processes do not inherit it, and it holds between machines on a file
    system that shares such locks.

    Args:
        path: what the lock is for; it need not be there.
        waits: whether to wait until another process lets go of it, or else to be refused.

    Raises:
        ValueError: another process holds it; the error names its process id and host.
        OSError: no lock can be made there.
    """
    lock = _lock_path(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(lock, path, waits)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{this_process()}\n".encode(), 0)
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def this_process() -> str:
    """Returns what the locks that this process holds say of it."""
    return f"process {os.getpid()} on {platform.node()}"


def read_holder(path: Path) -> str:
    """Returns what the lock of a path says of its holder; empty where there is no lock.

    Never for the holder itself: a process that closes a file lets go of all its locks on that file.
    """
    try:
        return _lock_path(path).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _acquire(lock: Path, path: Path, waits: bool) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            if waits or error.errno not in (errno.EACCES, errno.EAGAIN):  # POSIX allows both for "held"
                raise OSError(error.errno, error.strerror, str(lock)) from None
            raise ValueError(f"{path}: found {holder} at work on it, expected to be alone") from None
        if _is_still_there(lock, descriptor):
            return descriptor
        # Its last holder removed it between our opening and locking it.
        os.close(descriptor)


def _is_still_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
