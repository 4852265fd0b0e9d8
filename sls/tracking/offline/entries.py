"""The entries of a journal, and how far they have been sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sls.quotation import quote

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One recording."""

    number: int
    """Counts from 0 within its journal."""
    kind: str
    payload: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What a warning calls it."""
        return f"entry {self.number} ({self.kind})"


@dataclass
class Position:
    """How far a run has been sent, and what the server calls its parts."""

    next: int = 0
    """The number of the first entry that is still to be sent."""
    run_id: str = ""
    """Empty until the server has made the run."""
    experiment_id: str = ""
    writer: str = ""
    """The token of this journal on the run; see `sls.tracking.offline.run_writer`."""
    models: dict[str, str] = field(default_factory=dict)
    """The ids of LoggedModels by the handles of checkpoints."""
    refused: dict[str, str] = field(default_factory=dict)
    """What the server said to entries that it will not take, by number."""


def read_position(path: Path) -> Position:
    """Returns how far a journal has been sent; the beginning where nothing says so."""
    try:
        text = (path / "position.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return Position()
    return Position(**json.loads(text))


def read_entries(path: Path) -> list[Entry]:
    """Reads a file of entries; a last line that was cut off in writing is dropped with a warning.

    Raises:
        ValueError: another line is no entry, or not the next one.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    if lines[-1]:
        logger.warning("%s:%d was cut off in writing and is dropped", path, len(lines))
    entries = []
    for number, line in enumerate(lines[:-1]):
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number + 1}: found {quote(line)}, expected an entry") from error
        if entry.number != number:
            raise ValueError(f"{path}:{number + 1}: found entry {entry.number}, expected {number}")
        entries.append(entry)
    return entries
