"""A training's journal: all that it records lies on the local disk, in order, until the tracking server has it.

What holds, wherever a process is killed and however long the server is away:

- What is recorded is on the disk before the training goes on. That is why it is written first and then sent, and not
  only written when the server does not answer: a call that is under way at a kill would be lost.
- It is sent in order, one entry at a time; the position moves on when the server has said that it has the entry. An
  entry that was cut off is sent again, which changes nothing on the server (see `sls.tracking.run`). What removes
  something waits until the later entries are sent whose files have made those of an earlier one needless.
- Files leave this disk when the entry that brought them was sent, or when a later entry that is on the disk has made
  them needless; the journal leaves it when all of it was sent and nothing refused.
- One process at a time holds a journal, and nothing is added to one that was left.
- What a disk or a power cut has damaged is named, kept and passed over, as an entry that the server refuses is.

A journal is a directory: `opening.json`, how the run begins; `entries.jsonl`, one numbered entry a line, and the end;
`files/NUMBER`, the files of an entry; `position.json`, how far it has been sent; and `lock`.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sls.files import write_whole
from sls.tracking.offline.journal_files import (
    END,
    ENTRIES_FILE,
    OPENING_FILE,
    POSITION_FILE,
    Entry,
    EntryDamaged,
    Opening,
    Position,
    file_sizes,
    journal_directory,
    lock_journal,
    read_entries,
    read_opening,
    read_position,
    seal,
    sync_to_disk,
)
from sls.tracking.offline.server_calls import DELETIONS


class Journal:
    """The journal of one run; entries are appended by one thread and sent by another."""

    def __init__(self, path: Path) -> None:
        """Opens a journal for the one process that holds it; see `create_journal`.

        Raises:
            JournalDamaged: nothing of it can be sent.
            BlockingIOError: another process holds it.
            FileNotFoundError: it was sent in the meantime.
        """
        self.path = path
        self.changed = threading.Condition()
        self.stopped: BaseException | None = None
        """Why nothing more is taken in."""
        self._lock = lock_journal(path)
        try:
            self.opening = read_opening(path)
            self.position = read_position(path)
            self.entries, self.damage = read_entries(path, self.position)
        except BaseException:
            self._lock.close()
            raise
        self._file: BinaryIO | None = None
        self._num_entries = self.entries[-1].number + 1 if self.entries else 0
        self._held = -1
        self._needless: dict[int, int] = {}
        """The entries whose files are needless, each with the entry that has made them so."""
        self._files_by_handle: dict[Any, int] = {}
        for entry in self.entries:
            self._note_files(entry)
        sent = set(self.position.ahead)
        new = (entry for entry in self.entries if entry.number >= self.position.next)
        self.pending = [entry for entry in new if entry.number not in sent]
        self._unsent = {entry.number for entry in self.pending}

    @property
    def is_sent(self) -> bool:
        """Whether the server has all of it."""
        return bool(self.position.run_id) and not self.pending

    @property
    def run_id(self) -> str:
        """The run's id; that of the journal until the server has made the run."""
        return self.position.run_id or self.opening.run_id or self.opening.journal_id

    def send_refused_again(self) -> None:
        """Lets what was refused be sent again, and the end of the run, which depends on it."""
        again = {int(number) for number in self.position.refused} | self._unsent
        if self.position.refused:
            again |= {entry.number for entry in self.entries if entry.call == "_end"}
        self.pending = [entry for entry in self.entries if entry.number in again]

    def next_entry(self) -> Entry:
        """Returns the pending entry that is to be sent."""
        with self.changed:
            return next(entry for entry in self.pending if not self._is_early(entry))

    def _is_early(self, entry: Entry) -> bool:
        """Whether an entry removes something before what replaces files from before it was sent."""
        if entry.call not in DELETIONS:
            return False
        pending = {other.number for other in self.pending}
        return any(former < entry.number < self._replacement(former) in pending for former in self._needless)

    def _replacement(self, number: int) -> int:
        while number in self._needless:
            number = self._needless[number]
        return number

    def append(self, call: str, arguments: Mapping[str, Any], files: Path | None = None) -> None:
        """Writes an entry down to the disk; a directory of files becomes the journal's own.

        Raises:
            OSError: it could not be written, as on a full disk; the journal is as it was, and the files are gone.
            RunTakenOver: another process writes the run by now.
        """
        with self.changed:
            if self.stopped is not None:
                raise self.stopped
            self._file = self._file or (self.path / ENTRIES_FILE).open("r+b", buffering=0)
            sizes = file_sizes(files) if files else []
            entry = Entry(self._num_entries, call, arguments, files is not None, sizes)
            text = seal(entry).encode() + b"\n" + END
            place = self._place(entry.number)
            end = self._file.seek(-len(END), os.SEEK_END)
            try:
                if files is not None:
                    for path in [*files.rglob("*"), files]:
                        sync_to_disk(path)
                    place.parent.mkdir(exist_ok=True)
                    files.rename(place)
                    sync_to_disk(place.parent)
                    sync_to_disk(self.path)
                while text:
                    text = text[self._file.write(text) :]
                os.fsync(self._file.fileno())
            except (OSError, KeyboardInterrupt):
                # The next entry takes this number and this place in the file, which a full disk still has.
                os.pwrite(self._file.fileno(), END, end)
                self._file.truncate(end + len(END))
                shutil.rmtree(place, ignore_errors=True)
                raise
            self._num_entries += 1
            self._unsent.add(entry.number)
            self.pending.append(entry)
            self._note_files(entry)
            self.changed.notify_all()

    @contextmanager
    def hold_files(self, entry: Entry) -> Iterator[Path | None]:
        """Gives an entry's files for a `with` block, None where needless; raises EntryDamaged where they are gone."""
        if entry.damage:
            raise EntryDamaged(entry.damage)
        with self.changed:
            place, is_needed = self._place(entry.number), entry.number not in self._needless
            files = place if place.is_dir() and is_needed else None
            if entry.has_files and is_needed and not self._was_sent(entry):
                if files is None:
                    raise EntryDamaged(f"{place} is gone")
                if (found := file_sizes(files)) != list(entry.sizes):
                    raise EntryDamaged(f"{place}: found files of {found} bytes, expected {entry.sizes}")
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
        """Moves the position beyond a pending entry, and frees its files unless they were refused."""
        with self.changed:
            self.pending.remove(entry)
            self._unsent.discard(entry.number)
            sent = [*self.position.ahead, entry.number]
            unsent = (other.number for other in self.pending if other.number in self._unsent)
            self.position.next = next(unsent, self._num_entries)
            self.position.ahead = sorted({number for number in sent if number > self.position.next})
            self.position.refused.pop(str(entry.number), None)
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
        """Lets other processes have it; removes it if nothing of it is left: sent and not refused, or never begun.

        One that ends too early stays: what is gone from it may have been there.
        """
        with self.changed:
            if self._file is not None:
                self._file.close()
            is_never_begun = self.stopped is not None and self._num_entries == 0
            is_whole = not self.position.refused and not self.damage
            if is_never_begun or (self.is_sent and is_whole):
                # Under the lock, and out of the way in one step: nobody finds half a journal.
                gone = self.path.with_name(f".{self.path.name}.sent")
                self.path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
            self._lock.close()

    def _was_sent(self, entry: Entry) -> bool:
        is_sent = entry.number not in self._unsent and str(entry.number) not in self.position.refused
        return is_sent or self.position.was_lost

    def _place(self, number: int) -> Path:
        return self.path / "files" / f"{number:06d}"

    def _note_files(self, entry: Entry) -> None:
        """Keeps account of which files a later entry replaces or takes away, and frees those at once."""
        handle = entry.arguments.get("handle")
        former = self._files_by_handle.pop(handle, None)
        if former is not None:
            self._needless[former] = entry.number
            self._free_files(former)
        if handle and entry.has_files:
            self._files_by_handle[handle] = entry.number

    def _free_files(self, number: int) -> None:
        if number != self._held:
            shutil.rmtree(self._place(number), ignore_errors=True)

    def _write_position(self) -> None:
        with write_whole(self.path / POSITION_FILE) as temporary:
            temporary.write_text(seal(self.position), encoding="utf-8")
        self.changed.notify_all()


def create_journal(opening: Opening) -> Journal:
    """Starts the journal of a run; the directories sort by the time of their making."""
    path = journal_directory() / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{opening.journal_id}"
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.mkdir(parents=True, mode=0o700)
    contents = {
        OPENING_FILE: seal(opening).encode(),
        POSITION_FILE: seal(Position()).encode(),
        ENTRIES_FILE: END,
    }
    for name, content in contents.items():
        with write_whole(unfinished / name) as temporary:
            temporary.write_bytes(content)
    # Nobody else finds it before this process holds it.
    journal = Journal(unfinished)
    unfinished.rename(path)
    journal.path = path
    sync_to_disk(path)
    sync_to_disk(path.parent)
    return journal
