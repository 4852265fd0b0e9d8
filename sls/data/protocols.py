"""Protocols and keys: which trials there are, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from sls.data.tables import WHITESPACE, Table, read_first_line, read_table, split_line

ALL_SUBSETS = "all"
"""The name that stands for every trial, whatever its subset."""
IGNORED_COLUMN = "_"


class Label(IntEnum):
    """The two classes; a higher score is more bona fide."""

    SPOOF = 0
    BONAFIDE = 1


@dataclass(frozen=True)
class Trial:
    """One recording to train on or to score."""

    name: str
    path: Path
    label: int | None = None
    """`Label`, or None where it is not known."""


@dataclass(frozen=True)
class TableFormat:
    """How the lines of a protocol, key or list are read."""

    name: str
    columns: tuple[str, ...]
    """Our name of each column, by position; `_` for one that is ignored. Where there is a header: the names
    in it are `header`, in any order and among others."""
    header: tuple[str, ...] = ()
    """Names in the file's first line of each of `columns`; empty where the file has no header."""
    delimiter: str = WHITESPACE
    labels: Mapping[str, Label] = field(default_factory=dict)
    """The spellings of the labels."""
    subsets: Mapping[str, str] = field(default_factory=dict)
    """The spellings of the subsets, and the name that we give each."""

    def matches(self, line: str) -> bool:
        """Tells whether the first line of a file is of this form."""
        fields = split_line(line, self.delimiter)
        if self.header:
            return set(self.header) <= set(fields)
        return len(fields) == len(self.columns)

    def describe(self) -> str:
        """Returns the form in words, for an error."""
        if self.header:
            return f"a header with {', '.join(self.header)} ({self.name})"
        return f"{len(self.columns)} columns ({self.name})"

    def places(self, table: Table) -> dict[str, int]:
        """Returns the position of each column that is read, by our name."""
        if table.header is None:
            return {name: place for place, name in enumerate(self.columns) if name != IGNORED_COLUMN}
        ours = dict(zip(self.header, self.columns, strict=True))
        # A column that the format does not name keeps its own name: a breakdown may ask for it.
        return {ours.get(name, name): place for place, name in enumerate(table.header)}


@dataclass(frozen=True)
class Protocol:
    """The trials of a protocol or key, in the order of the file."""

    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    names: np.ndarray
    """Names of the trials. Shape: `(trials,)`, of str objects."""
    labels: np.ndarray | None
    """`Label` of each trial, or None for a list without labels. Shape: `(trials,)`, int8."""
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What else is known, by column (speaker, attack, codec, subset, ...). Shape of each: `(trials,)`."""

    def __len__(self) -> int:
        return len(self.names)

    def select(self, mask: np.ndarray) -> Protocol:
        """Returns the trials of a Boolean mask, or of row numbers in their order."""
        return replace(
            self,
            names=self.names[mask],
            labels=None if self.labels is None else self.labels[mask],
            fields={name: values[mask] for name, values in self.fields.items()},
        )

    def select_subset(self, subset: str) -> Protocol:
        """Returns the trials of one subset, or all of them for `all`.

        Raises:
            ValueError: no trial is in that subset.
        """
        return self if subset == ALL_SUBSETS else self.select(self.subset_mask(subset))

    def subset_mask(self, subset: str) -> np.ndarray:
        """Tells which trials are in a subset (for `all`: every one). Shape: `(trials,)`, Boolean.

        Raises:
            ValueError: no trial is in that subset.
        """
        if subset == ALL_SUBSETS:
            return np.ones(len(self), dtype=bool)
        mask = self.fields["subset"] == subset if "subset" in self.fields else np.zeros(len(self), bool)
        if not mask.any():
            known = ", ".join([*self.subsets(), ALL_SUBSETS])
            raise ValueError(f"{self.source}: found no trial of subset '{subset}', expected one of: {known}")
        return mask

    def subsets(self) -> tuple[str, ...]:
        """Returns the names of the subsets, sorted; empty where the corpus has none."""
        return tuple(sorted(set(self.fields["subset"].tolist()))) if "subset" in self.fields else ()

    def counts(self) -> dict[str, int]:
        """Returns the number of `trials` and, where labels are known, of `bonafide` and `spoof`."""
        counts = {"trials": len(self)}
        if self.labels is not None:
            counts["bonafide"] = int(np.count_nonzero(self.labels == Label.BONAFIDE))
            counts["spoof"] = len(self) - counts["bonafide"]
        return counts


def read_protocol(path: str | Path, formats: TableFormat | Sequence[TableFormat]) -> Protocol:
    """Reads a protocol, a key or a list of trials.

    Args:
        path: the file.
        formats: its form; of several, the first that the file's first line fits.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another number of columns, an unknown label or subset, or a trial that stands twice.
    """
    table, table_format = read_formatted_table(path, formats)
    places = table_format.places(table)
    names = table.strings(places["trial"])
    check_unique(table, names)
    fields = {
        name: table.categories(place).strings()
        for name, place in places.items()
        if name not in ("trial", "label", "subset")
    }
    if "subset" in places:
        fields["subset"] = _read_spellings(table, places["subset"], table_format.subsets, "subset")
    labels = None
    if "label" in places:
        labels = _read_spellings(table, places["label"], table_format.labels, "label").astype(np.int8)
    return Protocol(table.source, table.digest, names, labels, fields)


def read_formatted_table(
    path: str | Path, formats: TableFormat | Sequence[TableFormat]
) -> tuple[Table, TableFormat]:
    """Reads a table of the first form that its first line fits.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no form fits, or lines are not alike.
    """
    formats = (formats,) if isinstance(formats, TableFormat) else tuple(formats)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (looked in {Path.cwd()})")
    table_format = match_format(path, formats)
    if table_format is None:
        found = len(split_line(read_first_line(path), formats[0].delimiter))
        expected = ", or ".join(candidate.describe() for candidate in formats)
        raise ValueError(f"{path}:1: found {found} columns, expected {expected}")
    return read_table(path, table_format.delimiter, header=bool(table_format.header)), table_format


def match_format(path: Path, formats: Sequence[TableFormat]) -> TableFormat | None:
    """Returns the first form that a file's first line fits, or None."""
    line = read_first_line(path)
    return next((candidate for candidate in formats if candidate.matches(line)), None)


def check_unique(table: Table, names: np.ndarray) -> None:
    """Raises ValueError where a trial stands in two rows; names both lines."""
    values = names.tolist()
    if len(set(values)) == len(values):
        return
    first_rows: dict[str, int] = {}
    for row, name in enumerate(values):
        if name in first_rows:
            first_line = table.line(first_rows[name])
            raise ValueError(
                f"{table.source}:{table.line(row)}: found trial '{name}' a second time "
                f"(first in line {first_line}), expected each trial once"
            )
        first_rows[name] = row


def _read_spellings(table: Table, column: int, spellings: Mapping[str, object], what: str) -> np.ndarray:
    """Returns what each field of a column stands for: itself, where no spellings are declared."""
    categories = table.categories(column)
    if not spellings:
        return categories.strings()
    for code, value in enumerate(categories.values):
        if value not in spellings:
            row = int(np.flatnonzero(categories.codes == code)[0])
            raise ValueError(
                f"{table.source}:{table.line(row)}: found {what} '{value}', "
                f"expected one of: {', '.join(sorted(spellings))}"
            )
    meanings = np.empty(len(categories.values), dtype=object)
    meanings[:] = [spellings[value] for value in categories.values]
    return meanings[categories.codes]
