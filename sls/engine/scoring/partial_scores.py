"""Scores on their way: files beside a score file, which killed processes leave behind and the next ones continue.

A list of trials is scored in one part or several, its shards, each by a process of its own into a partial file of
its own. The first line of that is JSON and says what the scores are made with. Each further line is one of the score
file, `trial score`, in the order of the list; the score is nan where the recording could not be read. A trial that is
scored again has another line, which counts. A line that was cut off ends what is believed.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sls.data.tables.score_files import check_names, format_score
from sls.engine.scoring.settings import REMEDY, check_same, is_made_with
from sls.files import naming
from sls.plain_data import parse_json
from sls.quotation import count_of

PARTIAL_ENDING = ".partial"
SYNC_INTERVAL_S = 5.0
"""Seconds of work that a power cut may cost; a killed process loses nothing that it has written."""
UNREADABLE = "nan"

# A power cut may leave zeros.
_LINE = re.compile(rb"([^\0\n]+) (-?[\d.e+-]+|nan)\n")


@dataclass(frozen=True)
class Shard:
    """One of several parts into which the batches of a list of trials are divided."""

    number: int = 1
    """From 1."""
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"shard: found {self}, expected NUMBER/COUNT with numbers from 1, such as 3/16")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def batches(self, num_batches: int) -> range:
        """Returns the numbers of its batches, which lie side by side."""
        return range(num_batches * (self.number - 1) // self.count, num_batches * self.number // self.count)

    def trials(self, num_trials: int, batch_size: int) -> range:
        """Returns the places of its trials in the list."""
        batches = self.batches(-(-num_trials // batch_size))
        return range(batches.start * batch_size, min(batches.stop * batch_size, num_trials))


WHOLE = Shard()


def partial_path(output: Path, shard: Shard = WHOLE) -> Path:
    """Returns where the scores of a shard are kept until the score file is whole."""
    part = "" if shard == WHOLE else f".{shard.number}-of-{shard.count}"
    return output.with_name(f"{output.name}{part}{PARTIAL_ENDING}")


def find_shards(output: Path) -> list[Shard]:
    """Returns the shards of a score file, and of no other, that have a partial file."""
    form = re.compile(rf"{re.escape(output.name)}\.([1-9]\d*)-of-(\d+){re.escape(PARTIAL_ENDING)}")
    matches = [form.fullmatch(path.name) for path in output.parent.glob("*")]
    found = [(int(match[2]), int(match[1])) for match in matches if match]
    return [Shard(number, count) for count, number in sorted(found) if number <= count]


@dataclass(frozen=True)
class PartialScores:
    """A partial file as it was found."""

    path: Path
    made_with: dict[str, Any]
    scores: dict[str, str]
    """By trial, in the order of the list, as the score file has them."""
    num_bytes: int
    """Length of what is whole."""

    def covers(self, names: Iterable[str]) -> bool:
        """Whether all of these trials have a score."""
        return all(self.scores.get(name, UNREADABLE) != UNREADABLE for name in names)

    def lines(self) -> list[str]:
        """Returns the line of each trial in the score file; an empty one where it has no score."""
        return ["" if score == UNREADABLE else f"{name} {score}\n" for name, score in self.scores.items()]


def read_partial(path: Path, remedy: str = REMEDY) -> PartialScores | None:
    """Reads a partial file up to a line that is not whole, None without a first one; raises ValueError for others."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.readline()
        if not first.endswith(b"\n"):
            return None
        made_with = _parse_head(first)
        if made_with is None:
            raise ValueError(f"{path}: found no partial scores, expected some or no file; {remedy}")
        scores, num_bytes = {}, len(first)
        for line in file:
            match = _LINE.fullmatch(line)
            if match is None or not _is_told(match):
                break
            scores[match[1].decode()] = match[2].decode()
            num_bytes += len(line)
    return PartialScores(path, made_with, scores, num_bytes)


def _is_told(line: re.Match[bytes]) -> bool:
    """Whether a line is what was written: UTF-8, and a number."""
    try:
        line[1].decode()
        float(line[2])
    except ValueError:
        return False
    return True


def _parse_head(line: bytes) -> dict[str, Any] | None:
    """Returns what scores are made with; None where the line does not say it."""
    try:
        made_with = parse_json(line)
    except ValueError:
        return None
    is_whole = is_made_with(made_with) and {"num_trials", "eval_batch_size"} <= made_with.keys()
    return made_with if is_whole else None


class PartialWriter:
    """Adds lines to a partial file of which so much was found, or begins it. Hold its lock, and close it."""

    def __init__(self, path: Path, made_with: Mapping[str, Any], found: PartialScores | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("ab", buffering=0)
        with naming(path):
            self._file.truncate(found.num_bytes if found else 0)
        if found is None:
            self._write(json.dumps(made_with) + "\n")
        self._sync()

    def append(self, names: Sequence[str], scores: Sequence[float]) -> None:
        """Adds the scores of a batch, NaN where a recording could not be read."""
        pairs = zip(names, scores, strict=True)
        self._write("".join(f"{name} {format_score(score)}\n" for name, score in pairs))
        if time.monotonic() - self._synced_s > SYNC_INTERVAL_S:
            self._sync()

    def close(self) -> None:
        """Waits until what was written is on the disk."""
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        with naming(self._path):
            os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def _write(self, text: str) -> None:
        rest = text.encode()
        with naming(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]


def join_shards(output: Path, shards: Sequence[Shard]) -> tuple[dict[str, Any], list[str]]:
    """Returns what the scores of shards are made with, and the lines of the score file, in the order of the list.

    Raises:
        FileNotFoundError: There are no shards.
        ValueError: Shards of different models, protocols or settings, or trials that none of them has scored.
    """
    found = [(shard, part) for shard in shards if (part := read_partial(partial_path(output, shard)))]
    if not found:
        expected = f"{output.name}.1-of-N{PARTIAL_ENDING}"
        raise FileNotFoundError(f"{output}: found no shards of it, expected {expected}")
    made_with, first = found[0][1].made_with, found[0][1].path.name
    num_trials = made_with["num_trials"]
    by_place: dict[int, str] = {}
    for shard, part in found:
        check_same(part.made_with, made_with, part.path, f"the others are as {first}")
        places = shard.trials(num_trials, made_with["eval_batch_size"])
        by_place |= {place: line for place, line in zip(places, part.lines(), strict=False) if line}
    if missing := num_trials - len(by_place):
        names = ", ".join(part.path.name for _, part in found)
        number = next(place for place in range(num_trials) if place not in by_place) + 1
        raise ValueError(
            f"{output}: {missing} of {count_of(num_trials, 'trial')} not scored, the first of them number {number}; "
            f"found {names}; score the missing shards, or continue those that were stopped"
        )
    lines = [by_place[place] for place in range(num_trials)]
    check_names(output, [line.rpartition(" ")[0] for line in lines])
    return made_with, lines
