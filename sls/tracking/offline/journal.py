"""A training's journal: all that it records lies on the local disk, in order, until the tracking server has it.

What holds, wherever a process is killed and however long the server is away:

- What is recorded is on the disk before the training goes on. That is why it is written first and then sent, and not
  only written when the server does not answer: a call that is under way at a kill would be lost.
- It is sent in order, one entry at a time; the position moves on when the server has said that it has the entry. An
  entry that was cut off is sent again, which changes nothing on the server (see `sls.tracking.run`).
- Files leave this disk when the entry that brought them was sent, or when a later entry that is on the disk has made
  them needless; the journal leaves it when all of it was sent and nothing refused.
- One process at a time holds a journal, and nothing is added to one that was left.

A journal is a directory: `opening.json`, how the run begins; `entries.jsonl`, one numbered entry a line;
`files/NUMBER`, the files of an entry; `position.json`, how far it has been sent; and `lock`.
"""

import functools
import inspect
import json
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Concatenate, ParamSpec

from sls.files import naming, take_lock, write_whole
from sls.tracking.offline.journal_files import (
    ENTRIES_FILE,
    OPENING_FILE,
    POSITION_FILE,
    Entry,
    FilesGone,
    Opening,
    journal_directory,
    read_entries,
    read_opening,
    read_position,
)
from sls.tracking.offline.server_calls import make_call

P = ParamSpec("P")
Call = Callable[Concatenate[Any, P], None]

CALLS: dict[str, Callable[..., None]] = {}
"""The calls to the server that an entry may ask for, by name."""


def recorded(call: Call[P]) -> Call[P]:
    """Makes of a run's call to the server what a run with a journal writes down there, for its sender to make it.

    The arguments are JSON, but for `files`, given by name: a directory that is taken over and that nobody will
    change; None where it has become needless. A `handle` names the files that a call brings or takes away: those of
    an earlier call with the same one are needless from then on.
    """
    names = list(inspect.signature(call).parameters)[1:]
    CALLS[call.__name__] = call

    @functools.wraps(call)
    def record(run: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        if run.journal is not None:
            arguments: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
            files = arguments.pop("files", None)
            with naming(run.journal.path):
                run.journal.append(call.__name__, arguments, files)
        elif not run.is_silent:
            make_call(lambda: call(run, *args, **kwargs))

    return record


class Journal:
    """The journal of one run; entries are appended by one thread and sent by another."""

    def __init__(self, path: Path) -> None:
        """Opens a journal for the one process that holds it; see `create_journal`.

        Raises:
            ValueError: the opening or an entry before the last cannot be read, or entries are gone.
            BlockingIOError: another process holds it.
            FileNotFoundError: it was sent in the meantime.
        """
        self.path = path
        self.changed = threading.Condition()
        self.stopped: BaseException | None = None
        """Why nothing more is taken in."""
        self._lock = _lock(path)
        try:
            self.opening = read_opening(path)
            self.position = read_position(path)
            entries = read_entries(path, self.position)
            self._file = (path / ENTRIES_FILE).open("ab", buffering=0)
        except BaseException:
            self._lock.close()
            raise
        self._num_entries = len(entries)
        self._held = -1
        self._needless: set[int] = set()
        self._files_by_handle: dict[Any, int] = {}
        for entry in entries:
            self._note_files(entry)
        self.pending = deque(entry for entry in entries if entry.number >= self.position.next)

    @property
    def is_sent(self) -> bool:
        """Whether the server has all of it."""
        return bool(self.position.run_id) and not self.pending

    @property
    def run_id(self) -> str:
        """The run's id; that of the journal until the server has made the run."""
        return self.position.run_id or self.opening.run_id or self.opening.journal_id

    def append(self, call: str, arguments: Mapping[str, Any], files: Path | None = None) -> None:
        """Writes an entry down to the disk; a directory of files becomes the journal's own.

        Raises:
            OSError: it could not be written, as on a full disk; the journal is as it was, and the files are gone.
            RunTakenOver: another process writes the run by now.
        """
        with self.changed:
            if self.stopped is not None:
                raise self.stopped
            entry = Entry(self._num_entries, call, arguments, files is not None)
            line = json.dumps(asdict(entry)).encode() + b"\n"
            place = self._place(entry.number)
            # Not `tell`: after a cut it is still beyond the end.
            end = self._file.seek(0, os.SEEK_END)
            try:
                if files is not None:
                    for path in [*files.rglob("*"), files]:
                        _sync(path)
                    place.parent.mkdir(exist_ok=True)
                    files.rename(place)
                    _sync(place.parent)
                    _sync(self.path)
                while line:
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
            except (OSError, KeyboardInterrupt):
                # The next entry takes this number and this place in the file.
                self._file.truncate(end)
                shutil.rmtree(place, ignore_errors=True)
                raise
            self._num_entries += 1
            self.pending.append(entry)
            self._note_files(entry)
            self.changed.notify_all()

    @contextmanager
    def hold_files(self, entry: Entry) -> Iterator[Path | None]:
        """Gives the files of an entry, which stay for the `with` block; None where they are needless by now.

        Raises:
            FilesGone: somebody else has removed them.
        """
        with self.changed:
            place, is_needed = self._place(entry.number), entry.number not in self._needless
            files = place if place.is_dir() and is_needed else None
            if entry.has_files and is_needed and not files and not self.position.was_lost:
                raise FilesGone(f"{place} is gone")
            self._held = entry.number
        try:
            yield files
        finally:
            with self.changed:
                self._held = -1
                if entry.number in self._needless:
                    self._free_files(entry.number)

    def mark_opened(self, run_id: str) -> None:
        """Notes that the server has opened the run."""
        with self.changed:
            self.position.run_id = run_id
            self._write_position()

    def mark_sent(self, entry: Entry, refusal: str = "") -> None:
        """Moves the position beyond the first pending entry, and frees its files unless they were refused."""
        with self.changed:
            self.pending.popleft()
            self.position.next = entry.number + 1
            if refusal:
                self.position.refused[str(entry.number)] = refusal
            self._write_position()
            if not refusal:
                self._free_files(entry.number)

    def stop(self, reason: BaseException) -> None:
        """Takes nothing more in."""
        with self.changed:
            self.stopped = reason
            self.changed.notify_all()

    def close(self) -> None:
        """Lets other processes have it; removes it if nothing of it is left: sent and not refused, or never begun."""
        with self.changed:
            self._file.close()
            is_never_begun = self.stopped is not None and self._num_entries == 0
            if is_never_begun or (self.is_sent and not self.position.refused):
                # Under the lock, and out of the way in one step: nobody finds half a journal.
                gone = self.path.with_name(f".{self.path.name}.sent")
                self.path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
            self._lock.close()

    def _place(self, number: int) -> Path:
        return self.path / "files" / f"{number:06d}"

    def _note_files(self, entry: Entry) -> None:
        """Keeps account of which files a later entry replaces or takes away, and frees those at once."""
        handle = entry.arguments.get("handle")
        former = self._files_by_handle.pop(handle, None)
        if former is not None:
            self._needless.add(former)
            self._free_files(former)
        if handle and entry.has_files:
            self._files_by_handle[handle] = entry.number

    def _free_files(self, number: int) -> None:
        if number != self._held:
            shutil.rmtree(self._place(number), ignore_errors=True)

    def _write_position(self) -> None:
        with write_whole(self.path / POSITION_FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self.position), indent=2), encoding="utf-8")
        self.changed.notify_all()


def create_journal(opening: Opening) -> Journal:
    """Starts the journal of a run; the directories sort by the time of their making."""
    path = journal_directory() / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{opening.journal_id}"
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.mkdir(parents=True, mode=0o700)
    with write_whole(unfinished / OPENING_FILE) as temporary:
        temporary.write_text(json.dumps(asdict(opening), indent=2), encoding="utf-8")
    # Nobody else finds it before this process holds it.
    journal = Journal(unfinished)
    unfinished.rename(path)
    journal.path = path
    _sync(path)
    _sync(path.parent)
    return journal


def _lock(path: Path) -> BinaryIO:
    """Takes the lock that lies in a journal, and goes with it."""
    try:
        return take_lock(path / "lock")
    except BlockingIOError as error:
        raise BlockingIOError(f"{path} is held by {error}, which sends it") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} was sent in the meantime") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
