"""The scores of the automatic speaker verification (ASV) system that the t-DCF supposes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from sls.data.tables.columns import Columns, Texts
from sls.data.tables.formats import TableFormat, read_first_line
from sls.data.tables.protocols import ALL_SUBSETS, Protocol, find_subset
from sls.data.tables.text_table import Table, read_table
from sls.quotation import quote


class Role(IntEnum):
    """What an ASV trial is: the claimed speaker, another one, or a spoofing attack."""

    TARGET = 0
    NONTARGET = 1
    SPOOF = 2


ROLES_AND_SCORES = TableFormat("ASV scores of ASVspoof 2019", ("attack", "role", "score"))
ROLE_SPELLINGS = {role.name.lower(): role for role in Role}
SAMPLED_NAMES = 10_000
"""Of spoofed trials: enough to see whether they are those of a key."""
CERTAIN_NAMES = 1_000
"""Names of a key, none of which is among those sampled: they are not those of its ASV trials."""


@dataclass(frozen=True)
class AsvScores:
    """The trials of an ASV system."""

    source: Path
    digest: str
    """SHA-256 of the score file, hexadecimal."""
    scores: np.ndarray
    """Score of each trial; higher is more like the claimed speaker. Shape: `(trials,)`, float64."""
    roles: np.ndarray
    """`Role` of each trial. Shape: `(trials,)`, int8."""
    fields: Columns = field(default_factory=lambda: Columns({}))
    """What else is known of the trials: attack, codec, transmission, subset. Shape of each: `(trials,)`."""
    spoofed_names: Texts | None = None
    """Some of the spoofed recordings, spread over the whole file; None where it does not name them."""
    has_all_names: bool = False
    """Whether these are all of them."""

    def __len__(self) -> int:
        return len(self.scores)

    def by_role(self) -> tuple[np.ndarray, ...]:
        """Returns the scores `(trials of the role,)` of each role, in the order of `Role`."""
        return tuple(self.scores[self.roles == role] for role in Role)

    def meets(self, names: Texts) -> bool:
        """Tells whether one of the spoofed recordings has one of these names, or may have, where it names none.

        It may lie in a folder, and have more endings, such as `-alaw-ita_tx` or `.flac`.
        """
        if self.spoofed_names is None:
            return True
        shortened: set[str] = set()
        for name in self.spoofed_names:
            bare = name.rpartition("/")[2]
            ends = [found.start() for found in re.finditer(r"[-.]", bare)]
            shortened.update((name, bare, *(bare[:end] for end in ends)))
        return bool((names.find(Texts.encode(shortened)) >= 0).any())

    def check_key(self, key: Protocol) -> None:
        """Raises ValueError where the recordings are certainly none of a key's: the t-DCF would be of two corpora."""
        names = self.spoofed_names
        if not names or not (self.has_all_names or len(key) >= CERTAIN_NAMES) or self.meets(key.names):
            return
        raise ValueError(
            f"{self.source}: found ASV scores of other recordings, such as {quote(names[0])}, expected some of those "
            f"of {key.source}, such as {quote(key.names[0])}: name the ASV scores of this corpus by asv_scores"
        )

    def select(self, mask: np.ndarray) -> AsvScores:
        """Returns the trials of a Boolean mask."""
        return replace(
            self, scores=self.scores[mask], roles=self.roles[mask], fields=self.fields.select(mask)
        )

    def select_subset(self, subset: str) -> AsvScores:
        """Returns the trials of one subset as `Protocol.select_subset` does; all where there are no subsets."""
        if subset == ALL_SUBSETS or "subset" not in self.fields:
            return self
        return self.select(find_subset(self.source, self.fields, len(self), subset))

    def counts(self) -> dict[str, int]:
        """Returns the number of target, non-target and spoofed trials."""
        return {name: int(np.count_nonzero(self.roles == role)) for name, role in ROLE_SPELLINGS.items()}


def brings_roles(path: str | Path) -> bool:
    """Tells whether a score file has the three columns of ASVspoof 2019: attack, role, score."""
    fields = read_first_line(path).split()
    return len(fields) == len(ROLES_AND_SCORES.columns) and fields[1] in ROLE_SPELLINGS


def read_asv_scores(
    scores: str | Path,
    score_formats: TableFormat | Sequence[TableFormat] = ROLES_AND_SCORES,
    metadata: str | Path | None = None,
    metadata_formats: TableFormat | Sequence[TableFormat] = (),
) -> AsvScores:
    """Reads ASV scores, whose roles they bring, as in ASVspoof 2019, or another file, as in ASVspoof 2021 LA.

    Two files are joined row by row, because one recording meets several enrolments, so that names repeat: the
    names of each row are compared, and must agree.

    Args:
        scores: The score file, with a column `score`.
        score_formats: Its form, or several of which the first that fits counts; by default attack (or `bonafide`),
            role, score.
        metadata: A file with a column `role`, row by row for the same trials; None where the scores bring it.
        metadata_formats: Its form, or several of which the first that fits counts.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: another number of rows or columns, names that disagree, an unknown role, a score that is
            not a finite number, or no trial of one of the three roles.
    """
    table = read_table(scores, score_formats)
    with_roles = table if metadata is None else read_table(metadata, metadata_formats)
    values = table.floats("score")
    roles, fields = _read_roles(with_roles)
    _check_same_rows(table, with_roles)
    named = next((held for held in (with_roles, table) if "trial" in held.places), None)
    spoofed = np.flatnonzero(roles == Role.SPOOF)
    spread = spoofed[:: -(-len(spoofed) // SAMPLED_NAMES)]
    names = None if named is None else named.texts("trial")[spread]
    has_all = len(spread) == len(spoofed)
    return AsvScores(table.source, table.digest, values, roles, fields, names, has_all)


def _read_roles(table: Table) -> tuple[np.ndarray, Columns]:
    """Returns the role of each row and the other columns, once each role is there."""
    fields = table.fields(leave_out=("trial", "enrolment", "role", "score"))
    roles = table.numbers("role", ROLE_SPELLINGS)
    for name, role in ROLE_SPELLINGS.items():
        if not (roles == role).any():
            expected = ", ".join(ROLE_SPELLINGS)
            raise ValueError(f"{table.source}: found no {name} trial, expected some of each: {expected}")
    return roles, fields


def _check_same_rows(scores: Table, metadata: Table) -> None:
    if len(scores) != len(metadata):
        raise ValueError(
            f"{scores.source}: found {len(scores)} rows, expected {len(metadata)} as in {metadata.source}, "
            "since the two are joined row by row"
        )
    for name in ("enrolment", "trial"):
        if name not in scores.places or name not in metadata.places:
            continue
        found, expected = scores.texts(name), metadata.texts(name)
        differs = found.differ(expected)
        if differs.any():
            row = int(np.argmax(differs))
            raise ValueError(
                f"{scores.source}:{scores.line(row)}: found {name} {quote(found[row])}, expected "
                f"{quote(expected[row])} as in line {metadata.line(row)} of {metadata.source}"
            )
