"""Scores on their way: an append-only file of whole batches, which a killed run leaves behind and the next continues.

The first line says what the scores depend on. Each further line is one batch, `CHECKSUM NUMBER trial score trial
score ...`, with scores as the score file writes them. A line that was cut off, or that its checksum does not fit,
ends what is believed. Batches have fixed places in the list of trials, so that a score does not depend on where a
run was cut.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sls.data.tables.score_files import format_score

SYNC_INTERVAL_S = 5.0
"""Seconds of work that a power cut may cost; a killed process loses nothing that it has written."""
EARLIER_SETTINGS = {"resampler": "soxr"}
"""Settings that scores were once made with and do not name, since there was no choice."""
_CHECKSUM_DIGITS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JournalHeader:
    """What the scores in a journal depend on, and what else is to be said of them."""

    binding: dict[str, Any]
    """All that decides over a score, by name. Journals that are joined or continued have the same."""
    about: dict[str, Any]
    """What goes into the JSON beside the score file."""

    def check(self, binding: Mapping[str, Any], source: Path, remedy: str) -> None:
        """Refuses another binding than this one.

        Raises:
            ValueError: They differ; the one line names in what, and then the remedy.
        """
        names = [name for name in {**self.binding, **binding} if self.binding.get(name) != binding.get(name)]
        if names:
            found = ", ".join(f"{name} {self.binding.get(name)}" for name in names)
            expected = ", ".join(f"{name} {binding.get(name)}" for name in names)
            raise ValueError(f"{source}: found scores with {found}, expected {expected}; {remedy}")


@dataclass
class JournalContent:
    """A journal as it was found."""

    source: Path
    header: JournalHeader
    batches: dict[int, list[str]] = field(default_factory=dict)
    """By number: `[trial, score, trial, score, ...]`."""
    num_bytes: int = 0
    """Length of what is whole."""

    def names_and_scores(self, num_batches: int) -> tuple[list[str], np.ndarray]:
        """Returns all trials and their scores in the order of the batches, which must all be there."""
        words = [word for batch in range(num_batches) for word in self.batches[batch]]
        return words[::2], np.array(words[1::2], dtype=np.float64)


def read_journal(path: Path) -> JournalContent | None:
    """Reads a journal up to its first line that is not whole; None where not even its header is.

    Raises:
        FileNotFoundError: There is no such file.
    """
    content: JournalContent | None = None
    with path.open("rb") as lines:
        for line in lines:
            body = _checked(line)
            if body is None:
                break
            if content is None:
                header = json.loads(body)
                binding = {**EARLIER_SETTINGS, **header["binding"]}
                content = JournalContent(path, JournalHeader(binding, header["about"]))
            else:
                number, *words = body.split(" ")
                content.batches[int(number)] = words
            content.num_bytes += len(line)
    return content


class ScoreJournal:
    """A journal that is open for more batches. Hold the lock of its score file while it is.

    Args:
        path: The journal; it is continued if it is there.
        header: What its scores depend on.
        remedy: What the user can do where it holds scores of something else.

    Raises:
        ValueError: The file holds scores of another model, protocol or setting, or is no journal.
    """

    def __init__(self, path: Path, header: JournalHeader, remedy: str) -> None:
        found = read_journal(path) if path.is_file() else None
        if found is None and path.is_file():
            _check_torn_header(path, remedy)
        if found is not None:
            found.header.check(header.binding, path, remedy)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if path.is_file() else "w+b", buffering=0)
        self._file.truncate(found.num_bytes if found else 0)
        self._file.seek(0, os.SEEK_END)
        self._synced_s = time.monotonic()
        # Numbers alone: the scores of a million trials stay on the disk until the score file is written.
        self.done = set(found.batches) if found else set()
        if found is None:
            self._write(json.dumps({"binding": header.binding, "about": header.about}))
            self.sync()
        elif self.done:
            logger.info("%s: continuing after %d batches", path, len(self.done))

    def append(self, batch: int, names: Sequence[str], scores: np.ndarray) -> None:
        """Adds a whole batch."""
        values = np.asarray(scores, dtype=np.float64).tolist()
        words = [
            word for name, score in zip(names, values, strict=True) for word in (name, format_score(score))
        ]
        self._write(" ".join([str(batch), *words]))
        self.done.add(batch)
        if time.monotonic() - self._synced_s > SYNC_INTERVAL_S:
            self.sync()

    def sync(self) -> None:
        """Waits until what was written is on the disk."""
        os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def __enter__(self) -> ScoreJournal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sync()
        self._file.close()

    def _write(self, body: str) -> None:
        data = body.encode()
        line = f"{zlib.crc32(data):0{_CHECKSUM_DIGITS}x} ".encode() + data + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:  # such as a full disk, of which the system does not say where
            raise OSError(error.errno, error.strerror, self._file.name) from error


def _checked(line: bytes) -> str | None:
    """Returns a line without its checksum, or None where it is cut off or damaged."""
    checksum, _, body = line[:-1].partition(b" ")
    if not line.endswith(b"\n") or checksum != f"{zlib.crc32(body):0{_CHECKSUM_DIGITS}x}".encode():
        return None
    return body.decode()


def _check_torn_header(path: Path, remedy: str) -> None:
    """Lets a header that was cut off be written anew, but no other file be overwritten."""
    with path.open("rb") as file:
        first = file.readline()
    if first.endswith(b"\n"):
        raise ValueError(f"{path}: found no journal of scores, expected one or no file; {remedy}")
