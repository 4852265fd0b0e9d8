"""The shards of a list of trials: which batches each has, where its scores are kept, and how they become one file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sls.engine.compute.launch import Launch
from sls.engine.scoring.partial_scores import JournalContent, JournalHeader, read_journal

JOURNAL_ENDING = ".partial"


@dataclass(frozen=True)
class Shard:
    """One of several parts into which the batches of a list of trials are divided."""

    number: int = 1
    """From 1."""
    count: int = 1

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 1 <= self.number <= self.count:
            raise ValueError(f"shard: found {self}, expected NUMBER/COUNT with numbers from 1, such as 3/16")

    @classmethod
    def of_process(cls, launch: Launch) -> Shard:
        """Returns what a process of a launch scores."""
        return cls(launch.rank + 1, launch.world_size)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def batches(self, num_batches: int) -> range:
        """Returns the numbers of its batches, which lie side by side."""
        return range(num_batches * (self.number - 1) // self.count, num_batches * self.number // self.count)


WHOLE = Shard()


def journal_path(output: Path, shard: Shard = WHOLE) -> Path:
    """Returns where the scores of a shard are kept until the score file is whole."""
    part = "" if shard == WHOLE else f".{shard.number}-of-{shard.count}"
    return output.with_name(f"{output.name}{part}{JOURNAL_ENDING}")


def shard_journals(output: Path) -> list[Path]:
    """Returns the journals of the shards of a score file that are there, sorted, and of no other score file."""
    form = re.compile(rf"{re.escape(output.name)}\.\d+-of-\d+{re.escape(JOURNAL_ENDING)}")
    return sorted(path for path in output.parent.glob("*") if form.fullmatch(path.name))


def find_shards(output: Path) -> list[JournalContent]:
    """Reads the journals of the shards of a score file.

    Raises:
        FileNotFoundError: There are none.
    """
    found = map(read_journal, shard_journals(output))
    contents = [content for content in found if content is not None]
    if not contents:
        raise FileNotFoundError(
            f"{output}: found no shards of it, expected {output.name}.1-of-N{JOURNAL_ENDING}"
        )
    return contents


def join_shards(
    output: Path, contents: Iterable[JournalContent]
) -> tuple[JournalHeader, list[str], np.ndarray]:
    """Returns what the shards of a score file hold together: header, trials and scores, in the order of the protocol.

    Raises:
        ValueError: Shards of different models, protocols or settings, or batches that none of them has.
    """
    contents = list(contents)
    first = contents[0]
    whole = JournalContent(output, first.header)
    for content in contents:
        content.header.check(first.header.binding, content.source, f"the others are as {first.source.name}")
        whole.batches |= content.batches
    binding = first.header.binding
    num_batches = -(-binding["num_trials"] // binding["eval_batch_size"])
    missing = [number for number in range(num_batches) if number not in whole.batches]
    if missing:
        found = ", ".join(content.source.name for content in contents)
        raise ValueError(
            f"{output}: {len(missing)} of {num_batches} batches are not scored, the first of them trial "
            f"{missing[0] * binding['eval_batch_size'] + 1} and on; found {found}; "
            "score the missing shards, or continue those that were stopped"
        )
    names, scores = whole.names_and_scores(num_batches)
    return first.header, names, scores
