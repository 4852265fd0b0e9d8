"""Protocols and keys: which trials there are, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from sls.data.tables.columns import Columns, Texts
from sls.data.tables.formats import TableFormat
from sls.data.tables.text_table import read_table
from sls.quotation import did_you_mean, quote

ALL_SUBSETS = "all"
"""The name that stands for every trial, whatever its subset."""
UNKNOWN_LABEL = "-"
"""What stands in the place of a label that is not known."""


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
class Protocol:
    """The trials of a protocol or key, in the order of the file."""

    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    names: Texts
    """Names of the trials. Shape: `(trials,)`."""
    labels: np.ndarray | None
    """`Label` of each trial, or None for a list without labels. Shape: `(trials,)`, int8."""
    fields: Columns = field(default_factory=lambda: Columns({}))
    """What else is known, by column (speaker, attack, codec, subset, ...). Shape of each: `(trials,)`."""
    spellings: Mapping[str, int] = field(default_factory=dict)
    """How the file spells the labels."""
    speakers: Protocol | None = None
    """The list that gave the speakers, where the file itself does not."""

    def __len__(self) -> int:
        return len(self.names)

    def select(self, mask: np.ndarray) -> Protocol:
        """Returns the trials of a Boolean mask, or of row numbers in their order."""
        return replace(
            self,
            names=self.names[mask],
            labels=None if self.labels is None else self.labels[mask],
            fields=self.fields.select(mask),
        )

    def with_speakers(self, speakers: Protocol) -> Protocol:
        """Returns the trials with the speakers that another list has; raises ValueError where the two disagree."""
        rows = speakers.names.find(self.names)
        if (rows < 0).any():
            name = self.names[int(np.argmax(rows < 0))]
            raise ValueError(
                f"{speakers.source}: found no trial {quote(name)}, expected each trial of {self.source}"
            )
        if speakers.labels is not None and self.labels is not None:
            found = speakers.labels[rows]
            if (found != self.labels).any():
                row = int(np.argmax(found != self.labels))
                raise ValueError(
                    f"{speakers.source}: found label {Label(found[row]).name.lower()} of trial "
                    f"{quote(self.names[row])}, expected {Label(self.labels[row]).name.lower()} as in {self.source}"
                )
        fields = self.fields.add("speaker", lambda: speakers.fields.categories("speaker").select(rows))
        return replace(self, fields=fields, speakers=speakers)

    def select_subset(self, subset: str) -> Protocol:
        """Returns the trials of one subset, of which `subset_mask` must find some, or all of them for `all`."""
        return self if subset == ALL_SUBSETS else self.select(self.subset_mask(subset))

    def subset_mask(self, subset: str) -> np.ndarray:
        """Tells, `(trials,)`, which trials are in a subset (`all`: every one), as `find_subset` does."""
        return find_subset(self.source, self.fields, len(self), subset)

    def subsets(self) -> tuple[str, ...]:
        """Returns the names of the subsets, sorted; empty where the corpus has none."""
        return list_subsets(self.fields)

    def counts(self, subset: str = ALL_SUBSETS) -> dict[str, int]:
        """Returns the number of `trials` and, where labels are known, of `bonafide` and `spoof`."""
        mask = self.subset_mask(subset)
        counts = {"trials": int(np.count_nonzero(mask))}
        if self.labels is not None:
            counts["bonafide"] = int(np.count_nonzero(self.labels[mask] == Label.BONAFIDE))
            counts["spoof"] = counts["trials"] - counts["bonafide"]
        return counts


def read_protocol(
    path: str | Path, formats: TableFormat | Sequence[TableFormat], *, needs_labels: bool = True
) -> Protocol:
    """Reads a protocol, a key or a list of trials.

    Args:
        path: The file.
        formats: Its form; of several, the first that the file's first line fits.
        needs_labels: Whether its labels count, where its form has them. Otherwise, as of trials that are only scored,
            a list with `-` in the place of some is one without labels.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another number of columns, an unknown label or subset, or a trial that stands twice.
    """
    table = read_table(path, formats)
    names, fields = table.names(), table.fields(leave_out=("trial", "label"))
    has_labels = "label" in table.places
    if has_labels and not needs_labels:
        has_labels = UNKNOWN_LABEL not in table.categories("label").values
    labels = table.numbers("label", table.form.labels) if has_labels else None
    return Protocol(table.source, table.digest, names, labels, fields, table.form.labels)


def list_subsets(fields: Columns) -> tuple[str, ...]:
    """Returns the names of the subsets, sorted; empty where the corpus has none."""
    return tuple(fields.categories("subset").occurring()) if "subset" in fields else ()


def find_subset(source: Path, fields: Columns, num_rows: int, subset: str) -> np.ndarray:
    """Tells, `(rows,)`, which rows of a list are in a subset (`all`: every one); raises ValueError where none is."""
    known = (*list_subsets(fields), ALL_SUBSETS)
    if subset not in known:
        raise ValueError(
            f"{source}: found no trial of subset {quote(subset)}, expected one of: {', '.join(known)}"
            f"{did_you_mean(subset, known)}"
        )
    if subset == ALL_SUBSETS:
        return np.ones(num_rows, dtype=bool)
    column = fields.categories("subset")
    return np.array([value == subset for value in column.values], dtype=bool)[column.codes]
