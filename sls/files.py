"""Files: written whole or not at all, told apart by their content."""

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sls.quotation import first_line

_LEAST_FREE_BYTES = 1 << 20
"""A disk with less is full."""
_WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the system answers where a file is open, and cannot be written to."""


@contextmanager
def write_whole(path: Path, beginning: str = ".") -> Iterator[Path]:
    """Gives a temporary path beside `path`, and renames it to `path` if the block ends without an error.

    The content is on disk before it has the name, so that the name never points to half of it. The temporary name
    begins as whoever lists the directory knows what to pass over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path, beginning)
    try:
        with naming(path, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        # Not gone yet where the block failed, or where both were links to one file: that rename does nothing.
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Names the place to which a `with` block writes where that fails: a full disk is told without one.

    While it is written it has a temporary name.

    Raises:
        OSError: it could not be written, whatever the error of a library was; a place that is named stays.
    """
    try:
        yield
    except Exception as error:
        named = error.filename if isinstance(error, OSError) else None
        is_own = temporary is not None and named == str(temporary)
        number = error.errno if is_own and isinstance(error, OSError) else write_failure(error)
        is_copy = temporary is not None and getattr(error, "filename2", None) == str(temporary)
        if not number or not (named is None or is_own or is_copy):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def write_failure(error: BaseException | None) -> int:
    """Returns why the system could not write, by its number, if an error is of that; else 0.

    Libraries tell it in the text of errors of their own, or leave it in what their error came from.
    """
    while error is not None and not isinstance(error, ValueError):
        number = getattr(error, "errno", None)
        told = [known for known in _WRITE_FAILURES if known == number or os.strerror(known) in str(error)]
        if told:
            return told[0]
        error = error.__cause__ or error.__context__
    return 0


def file_digest(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory for files on their way, which goes with the block; raises OSError, with its path, if full."""
    with tempfile.TemporaryDirectory(prefix="sls-") as path:
        try:
            yield Path(path)
        except Exception as error:
            number = write_failure(error)
            named = [str(getattr(error, name, None) or "") for name in ("filename", "filename2")]
            is_full = number != errno.ENOSPC or shutil.disk_usage(path).free <= _LEAST_FREE_BYTES
            is_here = any(name.startswith(path) for name in named) if any(named) else is_full
            if not number or not is_here:
                raise
            raise OSError(number, f"{os.strerror(number)} (TMPDIR names another place)", path) from error


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Makes whatever the content of a file leads to one kind of error, which names the file.

    Around the readers of others' files, which know only some of what may be wrong with one. Errors of the system, as
    where there is no such file, stay as they are.

    Raises:
        ValueError: The block raised something, be it that there is not enough memory.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and place in str(error):
            raise
        raise ValueError(f"{place}: cannot be used: {first_line(error)}") from error


def looked_in(path: str | Path) -> str:
    """Returns where a path that is not there was looked for, to follow it in an error; an absolute one says it."""
    return "" if Path(path).is_absolute() else f" (looked in {Path.cwd()})"


def check_is_file(path: Path, parameter: str = "", expected: str = "a regular file") -> None:
    """Refuses what is no regular file; a pipe, for one, can be read once only.

    The error names it by a parameter, if the user gave it, and says what was expected.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: there is a directory, a pipe or a device.
    """
    if path.is_file():
        return
    where = f"{parameter}: {path}" if parameter else str(path)
    if not path.exists():
        raise FileNotFoundError(f"{where}: no such file{looked_in(path)}, expected {expected}")
    found = "a directory" if path.is_dir() else "a pipe or a device"
    raise ValueError(f"{where}: found {found}, expected {expected}")


def check_is_place(path: Path, parameter: str) -> None:
    """Refuses a place where no file can be put by `write_whole`, before there is work that would be lost.

    What is there would be replaced: a device, a pipe or a socket by a file, and a link instead of what it leads to.
    What is missing of its directories may be made.

    Raises:
        ValueError: there is something else than a file, or no file can be made in its directory.
    """
    expected = "expected a file to write"
    if path.is_symlink():
        raise ValueError(f"{parameter}: found the link {path} to {path.readlink()}, {expected}")
    if path.exists() and not path.is_file():
        found = "directory" if path.is_dir() else "pipe, socket or device"
        raise ValueError(f"{parameter}: found the {found} {path}, {expected}")
    directory = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not directory.is_dir():
        raise ValueError(f"{parameter}: found {directory}, which is no directory, {expected} at {path}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ValueError(f"{parameter}: found {directory}, which cannot be written to, {expected} at {path}")
    if len(os.fsencode(_temporary_path(path).name)) > os.pathconf(directory, "PC_NAME_MAX"):
        raise ValueError(f"{parameter}: found a name of {len(path.name)} characters, expected a shorter one")


def _temporary_path(path: Path, beginning: str = ".") -> Path:
    return path.with_name(f"{beginning}{path.name}.{secrets.token_hex(4)}.part")
