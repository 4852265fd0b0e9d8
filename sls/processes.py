"""Processes: which one holds a path that others stay away from, and which one is gone."""

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sls.files import naming


@contextmanager
def hold_lock(path: Path, waits: bool = False) -> Iterator[None]:
    """Holds `PATH.lock` for the duration of a `with` block; see `take_lock`.

    The path need not be there. It waits until another process lets go of it, or else is refused.

    Raises:
        ValueError: another process holds it; the error names its process id and host.
        OSError: no lock can be made there.
    """
    lock = _lock_path(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = take_lock(lock, waits)
    except BlockingIOError as error:
        raise ValueError(f"{path}: found {error} at work on it, expected to be alone") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def take_lock(lock: Path, waits: bool = False) -> BinaryIO:
    """Locks a file, made if need be, until it is closed; the system frees it if the process is killed.

    It is a POSIX record lock: worker processes do not inherit it, and it holds between machines on a file
    system that shares such locks.

    Raises:
        BlockingIOError: another process holds it; the message is what that one has written into it.
        OSError: no lock can be made there.
    """
    while True:
        file = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError as error:
            with file:
                holder = file.read(200).decode(errors="replace").strip()
            if waits or error.errno not in (errno.EACCES, errno.EAGAIN):  # POSIX allows both for "held"
                raise OSError(error.errno, error.strerror, str(lock)) from None
            raise BlockingIOError(holder or "another process") from None
        if _is_still_there(lock, file):
            with naming(lock):
                file.truncate(0)
                file.write(f"{this_process()}\n".encode())
            return file
        # Its last holder removed it between our opening and locking it.
        file.close()


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


def mark_process() -> str:
    """Returns what tells this process from all others, without a clock; empty where the system does not say."""
    try:
        return f"{process_space()} {os.getpid()} {_read_start(os.getpid())}"
    except OSError:
        return ""


def process_space() -> str:
    """Returns within what ids tell processes apart, a boot and a container; raises OSError where nothing says it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {''.join(filter(str.isdigit, str(Path('/proc/self/ns/pid').readlink())))}"


def _read_start(process: int) -> str:
    """Returns when a process has begun, in ticks since the boot; empty for one that has ended."""
    fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def is_gone(mark: str) -> bool:
    """Whether a process of this machine has certainly ended, by its mark."""
    process, start = mark.split()[-2:]
    try:
        os.kill(int(process), 0)
        return _read_start(int(process)) != start
    except ProcessLookupError:
        return True
    except OSError:  # of another user, who may hide what it is
        return False


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _is_still_there(lock: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
