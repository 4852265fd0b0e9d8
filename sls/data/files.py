"""Files that a user names."""

from __future__ import annotations

from pathlib import Path


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
