"""Where journals lie, under `outputs/journal/` or SLS_JOURNAL_DIR, and what stands in them.

Everything in them is JSON with a checksum, so that what a disk or a power cut has changed is found and never sent.
"""

import json
import logging
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, TypeVar, get_origin

from sls.config import WORK_ROOT
from sls.plain_data import parse_json
from sls.processes import take_lock
from sls.quotation import quote

JOURNAL_DIR_VARIABLE = "SLS_JOURNAL_DIR"
OPENING_FILE, ENTRIES_FILE, POSITION_FILE = "opening.json", "entries.jsonl", "position.json"
END = b"end\n"
"""The last line of the entries: without it some may be gone."""

Sealed = TypeVar("Sealed", "Opening", "Entry", "Position")

logger = logging.getLogger(__name__)


class EntryDamaged(Exception):
    """An entry cannot be read any more, or its files are not in the journal, although they were never sent."""


class JournalDamaged(ValueError):
    """Nothing of a journal can be sent; the message names the file, and what was found in it."""


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
    sizes: Sequence[int] = ()
    """Of its files, the smallest first, in bytes."""
    damage: str = ""
    """Why this one, and perhaps some that followed it, cannot be read."""


@dataclass
class Position:
    """How far a journal has been sent."""

    next: int = 0
    """The number of the first entry that is still to be sent."""
    ahead: Sequence[int] = ()
    """Those after it that were sent before it."""
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


def find_journals(*run_ids: str) -> list[Path]:
    """Returns the journals on this disk, the oldest first: all, or those of the runs of ids."""
    root = journal_directory()
    paths = sorted(path for path in root.glob("[0-9]*-*") if path.is_dir()) if root.is_dir() else []
    wanted = set(filter(None, run_ids))
    return [path for path in paths if not wanted or wanted & _ids(path)]


def _ids(path: Path) -> set[str]:
    """The ids by which the run of a journal may be known, whatever else in its files is damaged."""
    ids = {path.name.rpartition("-")[2]}
    for name in (OPENING_FILE, POSITION_FILE):
        with suppress(OSError):  # who opens it will say so
            ids |= {
                run_id.decode() for run_id in re.findall(rb'"run_id": "(\w+)"', (path / name).read_bytes())
            }
    return ids


def seal(value: Any) -> str:
    """Returns a dataclass, or a mapping, as one line of JSON with a checksum."""
    values = dict(value) if isinstance(value, Mapping) else asdict(value)
    return json.dumps({**values, "crc32": _checksum(values)})


def _unseal(kind: type[Sealed], text: bytes) -> Sealed:
    """Returns the dataclass that was sealed.

    Raises:
        ValueError: it is no longer what it was.
        TypeError: it is another one.
    """
    values = parse_json(text)
    if not isinstance(values, dict) or values.pop("crc32", "") != _checksum(values):
        raise ValueError(f"{quote(text)} does not fit its checksum")
    for item in fields(kind):
        expected = item.type if isinstance(item.type, UnionType) else get_origin(item.type) or item.type
        if item.name in values and not isinstance(values[item.name], expected):  # type: ignore[arg-type]
            raise TypeError(f"{item.name} is {quote(values[item.name])}")
    return kind(**values)


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"


def read_opening(path: Path) -> Opening:
    """Reads how a run begins; raises JournalDamaged where nothing says so, as in a journal of another version."""
    try:
        return _unseal(Opening, (path / OPENING_FILE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        message = f"{path}: found no readable {OPENING_FILE} ({error}), expected a journal of this version"
        raise JournalDamaged(message) from error


def read_position(path: Path) -> Position:
    """Reads how far a journal has been sent; where nothing readable says so, it is sent anew from its beginning."""
    try:
        return _unseal(Position, (path / POSITION_FILE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read, and all is sent again (%s)", path / POSITION_FILE, error)
        return Position(was_lost=True)


def read_entries(journal: Path, position: Position) -> tuple[list[Entry], str]:
    """Reads the entries of a journal.

    What cannot be read, or is gone, and was not sent before, has an entry in its place that says so by `damage`.

    Returns:
        The entries, and where the file ends too early a text that says so: an entry was cut off in writing, which
        nothing has relied on yet, or others are gone.
    """
    path = journal / ENTRIES_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        content, cut = b"", f"{path} cannot be read: {error.strerror}"
    else:
        last = content.count(b"\n") + 1
        cut = f"{path}:{last}: found the end of the file, expected a line that says so"
    is_ended = content.endswith(b"\n" + END) or content == END
    entries: list[Entry] = []
    following, damage = 0, ""
    for number, line in enumerate(content.removesuffix(END).splitlines(), start=1):
        try:
            entry = _unseal(Entry, line)
            if entry.number < following:
                raise ValueError(f"entry {entry.number} stands there twice")
        except (ValueError, TypeError) as error:
            damage = damage or f"{path}:{number}: found {quote(line)}, expected an entry ({error})"
            continue
        _note_gap(entries, following, entry.number, position, damage or f"{path}:{number}")
        entries.append(entry)
        following, damage = entry.number + 1, ""
    expected = max(position.next, _count_files(journal))
    if is_ended and damage:
        expected = max(expected, following + 1)
    _note_gap(entries, following, expected, position, damage or cut)
    return entries, "" if is_ended else damage or cut


def _note_gap(entries: list[Entry], first: int, end: int, position: Position, damage: str) -> None:
    """Puts one entry in the place of those that are gone and were not sent."""
    first = max(first, position.next)
    if first < end:
        what = f"entry {first} is" if first == end - 1 else f"entries {first} to {end - 1} are"
        entries.append(Entry(end - 1, "", {}, has_files=False, damage=f"{damage}: {what} gone"))


def _count_files(journal: Path) -> int:
    """Returns how many entries there were at least: files are there before the entry that brings them is."""
    names = [place.name for place in (journal / "files").glob("*")]
    return max((int(name) for name in names if re.fullmatch("[0-9]+", name)), default=0)


def lock_journal(path: Path) -> BinaryIO:
    """Takes the lock that lies in a journal, and goes with it."""
    try:
        return take_lock(path / "lock")
    except BlockingIOError as error:
        raise BlockingIOError(f"{path} is held by {error}, which sends it") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} was sent in the meantime") from error
    except OSError as error:
        raise JournalDamaged(f"{path} cannot be opened: {error.strerror}") from error


def file_sizes(directory: Path) -> list[int]:
    """Returns the sizes of all files of a directory, the smallest first, in bytes."""
    return sorted(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def sync_to_disk(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
