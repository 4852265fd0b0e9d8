"""A run's journal: every recording on the local disk, in order, until the tracking server has it.

A journal is a directory: `entries.jsonl`, one numbered entry a line; `files/NUMBER`, the files of an entry;
`position.json`, how far it has been sent; and `lock`, held by the process that writes or sends it. Journals lie
under `outputs/journal/` at the project root, or where SLS_JOURNAL_DIR says.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from sls.config import PROJECT_ROOT
from sls.files import take_lock, write_whole
from sls.tracking.offline.entries import Entry, read_entries, read_position

JOURNAL_DIR_VARIABLE = "SLS_JOURNAL_DIR"


class Journal:
    """The journal of one run; entries are appended by one process and sent in order."""

    def __init__(self, path: Path) -> None:
        """Opens a journal for the one process that holds it; see `create_journal` and `open_journal`.

        Raises:
            ValueError: an entry before the last cannot be read.
            BlockingIOError: another process holds it.
            FileNotFoundError: it was sent in the meantime.
        """
        self.path = path
        self.changed = threading.Condition()
        self._lock = _lock(path)
        try:
            self.position = read_position(path)
            entries = read_entries(path / "entries.jsonl")
        except BaseException:
            self._lock.close()
            raise
        self.first = entries[0] if entries else None
        self._num_entries = len(entries)
        self._file: Any = None
        self._dropped: set[int] = set()
        self._files_of: dict[str, int] = {}
        for entry in entries:
            self._note(entry)
        self.pending = deque(entry for entry in entries if entry.number >= self.position.next)

    def append(self, kind: str, payload: Mapping[str, Any], files: Path | None = None) -> Entry:
        """Writes an entry down to the disk; a directory of files becomes the journal's own.

        Raises:
            OSError: it could not be written, as on a full disk; the journal is as it was, and the files are gone.
        """
        with self.changed:
            entry = Entry(self._num_entries, kind, dict(payload))
            line = json.dumps({"number": entry.number, "kind": kind, "payload": entry.payload})
            if self._file is None:
                self._file = (self.path / "entries.jsonl").open("ab", buffering=0)
                _sync(self.path)
            # Not `tell`: after a cut it is still beyond the end.
            end = self._file.seek(0, os.SEEK_END)
            try:
                if files is not None:
                    _sync_files(files)
                    self.files(entry).parent.mkdir(exist_ok=True)
                    files.rename(self.files(entry))
                    _sync(self.files(entry).parent)
                _write_all(self._file, line.encode() + b"\n")
            except OSError:
                # The next entry takes this number and this place in the file.
                self._file.truncate(end)
                shutil.rmtree(self.files(entry), ignore_errors=True)
                raise
            self._num_entries += 1
            self.pending.append(entry)
            self._note(entry)
            self.changed.notify_all()
            return entry

    def files(self, entry: Entry) -> Path:
        """Returns where the files of an entry lie."""
        return self.path / "files" / f"{entry.number:06d}"

    def is_dropped(self, entry: Entry) -> bool:
        """Says whether a later entry made the files of this one needless."""
        with self.changed:
            return entry.number in self._dropped

    def mark_sent(self, entry: Entry) -> None:
        """Moves the position beyond the first pending entry, and frees its files."""
        with self.changed:
            self.pending.popleft()
            self.position.next = entry.number + 1
            with write_whole(self.path / "position.json") as temporary:
                temporary.write_text(json.dumps(asdict(self.position), indent=2), encoding="utf-8")
            if str(entry.number) not in self.position.refused:
                self._free_files(entry.number)
            self.changed.notify_all()

    def staging_directory(self) -> Path:
        """Makes a directory on the journal's own disk, for files on their way into it."""
        return Path(tempfile.mkdtemp(prefix="staging-", dir=self.path))

    def close(self) -> None:
        """Lets other processes have it; removes it if all of it was sent and nothing refused."""
        with self.changed:
            if self._file is not None:
                self._file.close()
            if not self.pending and not self.position.refused:
                # Under the lock, and out of the way in one step: nobody finds half a journal.
                gone = self.path.with_name(f".{self.path.name}.sent")
                self.path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
            self._lock.close()

    def _note(self, entry: Entry) -> None:
        """Keeps account of which files a later entry replaces or removes, and frees those at once."""
        key = _file_key(entry)
        former = self._files_of.get(key)
        if former is not None:
            self._dropped.add(former)
            self._free_files(former)
        if entry.kind in ("checkpoint", "state"):
            self._files_of[key] = entry.number

    def _free_files(self, number: int) -> None:
        path = self.path / "files" / f"{number:06d}"
        gone = path.with_name(path.name + ".gone")
        # Renamed first: a sender that is reading them sees all of them or none.
        try:
            path.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)


def create_journal(journal_id: str) -> Journal:
    """Starts the journal of a new run; the directories sort by the time of their making."""
    path = journal_directory() / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{journal_id}"
    path.mkdir(parents=True, mode=0o700)
    return Journal(path)


def journal_directory() -> Path:
    """Returns where journals lie."""
    given = os.environ.get(JOURNAL_DIR_VARIABLE)
    return Path(given).resolve() if given else PROJECT_ROOT / "outputs" / "journal"


def find_journals(run_id: str = "") -> list[Path]:
    """Returns the journals on this disk, the oldest first: all, or those of one run."""
    root = journal_directory()
    paths = sorted(path for path in root.glob("[0-9]*-*") if path.is_dir()) if root.is_dir() else []
    return [path for path in paths if not run_id or run_id in _names(path)]


def journal_id(path: Path) -> str:
    """Returns the id by which a run is known before the server has given it one."""
    return path.name.rpartition("-")[2]


def _names(path: Path) -> set[str]:
    """The ids by which the run of a journal may be known."""
    names = {read_position(path).run_id, journal_id(path)}
    with suppress(FileNotFoundError), (path / "entries.jsonl").open("rb") as file:
        first = file.readline()
        if first.endswith(b"\n"):
            names.add(json.loads(first)["payload"]["run_id"])
    return names


def _write_all(file: Any, data: bytes) -> None:
    """Writes to an unbuffered file, down to the disk."""
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())


def _lock(path: Path) -> BinaryIO:
    """Takes the lock that lies in a journal, and goes with it."""
    try:
        return take_lock(path / "lock")
    except BlockingIOError as error:
        raise BlockingIOError(f"{path} is held by {error}, which sends it") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} was sent in the meantime") from error


def _file_key(entry: Entry) -> str:
    """Names the files that an entry brings or takes away."""
    if entry.kind in ("checkpoint", "removal"):
        return f"checkpoint {entry.payload['handle']}"
    return f"state {entry.payload['name']}" if entry.kind in ("state", "state_removal") else ""


def _sync_files(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
