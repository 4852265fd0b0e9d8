"""Where journals lie, under `outputs/journal/` or SLS_JOURNAL_DIR, and what stands in them."""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sls.config import WORK_ROOT
from sls.plain_data import parse_json
from sls.quotation import quote

JOURNAL_DIR_VARIABLE = "SLS_JOURNAL_DIR"
OPENING_FILE, ENTRIES_FILE, POSITION_FILE = "opening.json", "entries.jsonl", "position.json"

logger = logging.getLogger(__name__)


class FilesGone(Exception):
    """The files that an entry brought are not in the journal, although they were never sent."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What the server is asked for when a run begins: a new run, or one that is there."""

    source: str
    """The door, by its module."""
    name: str | None
    """None leaves it to MLflow."""
    tracking_uri: str
    experiment: dict[str, str]
    """The `id` of the experiment of a new run, or where that is empty, its `name`."""
    start_ms: int
    journal_id: str
    """The id of its journal, by which a new run is known until the server has made it."""
    run_id: str = ""
    """The run to go on with."""
    launched: str = ""
    """The run that `mlflow run` has opened, where another one is resumed in its place."""
    writer: str = ""
    """The token of this process; empty without a journal."""
    former_writer: str = ""
    """The token on the run that is taken up again."""


@dataclass(frozen=True)
class Entry:
    """A call to the server that is yet to be made."""

    number: int
    """Counts from 0 within its journal."""
    call: str
    """The method of `TrackedRun`."""
    arguments: Mapping[str, Any]
    has_files: bool


@dataclass
class Position:
    """How far a journal has been sent."""

    next: int = 0
    """The number of the first entry that is still to be sent."""
    run_id: str = ""
    """Empty until the server has opened the run."""
    refused: dict[str, str] = field(default_factory=dict)
    """What the server said to entries that it will not take, by number."""
    was_lost: bool = False
    """Whether there was a further one, which is lost: of entries sent before, the files are gone."""


def journal_directory() -> Path:
    """Returns where journals lie."""
    given = os.environ.get(JOURNAL_DIR_VARIABLE)
    return Path(given).resolve() if given else WORK_ROOT / "outputs" / "journal"


def find_journals(run_id: str = "") -> list[Path]:
    """Returns the journals on this disk, the oldest first: all, or those of the run of an id."""
    root = journal_directory()
    paths = sorted(path for path in root.glob("[0-9]*-*") if path.is_dir()) if root.is_dir() else []
    return [path for path in paths if not run_id or run_id in _ids(path)]


def _ids(path: Path) -> set[str]:
    """The ids by which the run of a journal may be known."""
    ids = {path.name.rpartition("-")[2], read_position(path).run_id}
    with suppress(ValueError):  # who opens it will say so
        ids.add(read_opening(path).run_id)
    return ids


def read_opening(path: Path) -> Opening:
    """Reads how the run of a journal begins.

    Raises:
        ValueError: nothing readable says so, as where the journal was left by an earlier version.
    """
    try:
        return Opening(**parse_json((path / OPENING_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError) as error:
        message = f"{path}: found no readable {OPENING_FILE} ({error}), expected a journal of this version"
        raise ValueError(message) from error


def read_position(path: Path) -> Position:
    """Reads how far a journal has been sent; where nothing readable says so, it is sent anew from its beginning."""
    try:
        values = parse_json((path / POSITION_FILE).read_text(encoding="utf-8"))
        return Position(values["next"], values["run_id"], values["refused"], values.get("was_lost", False))
    except FileNotFoundError:
        return Position()
    except (ValueError, TypeError, KeyError) as error:
        logger.warning(
            "%s cannot be read, and all of the journal is sent again (%s)", path / POSITION_FILE, error
        )
        return Position(was_lost=True)


def read_entries(journal: Path, position: Position) -> list[Entry]:
    """Reads the entries of a journal; a last line that was cut off in writing is dropped with a warning.

    Raises:
        ValueError: another line is no entry, or not the next one; or there were more than are left, which would pass
            for all.
    """
    path = journal / ENTRIES_FILE
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    if lines[-1]:
        logger.warning("%s:%d was cut off in writing and is dropped", path, len(lines))
    entries = []
    for number, line in enumerate(lines[:-1]):
        try:
            entry = Entry(**parse_json(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number + 1}: found {quote(line)}, expected an entry") from error
        if entry.number != number:
            raise ValueError(f"{path}:{number + 1}: found entry {entry.number}, expected {number}")
        entries.append(entry)
    # The files of the one that was cut off in writing may be there.
    with_files = max((int(place.name) for place in (journal / "files").glob("[0-9]*")), default=0)
    expected = max(position.next, with_files)
    if len(entries) < expected:
        raise ValueError(f"{path}: found {len(entries)} entries, expected at least {expected}")
    return entries
