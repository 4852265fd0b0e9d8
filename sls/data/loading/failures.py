"""Recordings that cannot be read, and how many of them may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sls.data.audio.recording import AudioError


@dataclass(frozen=True)
class AudioFailure:
    """A recording that could not be read."""

    index: int
    """Place of the trial in the dataset."""
    name: str
    path: Path
    message: str
    """One line that names the file and says why."""


def check_failures(failures: Sequence[AudioFailure], max_failures: int) -> None:
    """Raises AudioError where more recordings cannot be read than may: with all names, or one's message."""
    if len(failures) <= max_failures:
        return
    message = failures[0].message
    if len(failures) > 1:
        names = ", ".join(failure.name for failure in failures)
        message = (
            f"{len(failures)} recordings cannot be read, expected at most {max_failures}: {names}; the first: "
            f"{message}"
        )
    raise AudioError(message)
