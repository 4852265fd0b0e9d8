"""The forms of protocols, keys and score files, and what is common in reading them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from sls.data.tables import WHITESPACE, Table, check_is_file, read_first_line, read_table, split_line

IGNORED_COLUMN = "_"
_SHOWN_CHARACTERS = 60  # of a line that is not understood


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
    labels: Mapping[str, int] = field(default_factory=dict)
    """The spellings of the labels, and the `Label` that each stands for."""
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


class Columns(Mapping[str, np.ndarray]):
    """Columns of a table by name, each made when it is first asked for: a key has many, and few are used."""

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]) -> None:
        """Prepares columns.

        Args:
            makers: by name, what returns the column, of shape `(rows,)`.
        """
        self._makers = dict(makers)
        self._made: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __repr__(self) -> str:
        return f"Columns({', '.join(self)})"

    def select(self, mask: np.ndarray) -> Columns:
        """Returns the rows of a Boolean mask, or of row numbers in their order."""
        return Columns({name: partial(self._select_column, name, mask) for name in self})

    def _select_column(self, name: str, mask: np.ndarray) -> np.ndarray:
        return self[name][mask]


def as_columns(columns: Mapping[str, np.ndarray]) -> Columns:
    """Returns columns that are at hand as `Columns`."""
    if isinstance(columns, Columns):
        return columns
    return Columns({name: partial(np.asarray, values) for name, values in columns.items()})


def make_columns(
    table: Table, places: Mapping[str, int], leave_out: Collection[str]
) -> dict[str, Callable[[], np.ndarray]]:
    """Returns what makes each column of a table, for `Columns`."""
    return {
        name: partial(_read_column, table, place) for name, place in places.items() if name not in leave_out
    }


def _read_column(table: Table, place: int) -> np.ndarray:
    return table.categories(place).strings()


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
    check_is_file(path)
    table_format = match_format(path, formats)
    if table_format is None:
        raise ValueError(describe_misfit(path, formats))
    return read_table(path, table_format.delimiter, header=bool(table_format.header)), table_format


def match_format(path: Path, formats: Sequence[TableFormat]) -> TableFormat | None:
    """Returns the first form that a file's first line fits, or None."""
    line = read_first_line(path)
    return next((candidate for candidate in formats if candidate.matches(line)), None)


def describe_misfit(path: Path, formats: Sequence[TableFormat]) -> str:
    """Says in one line that a file has none of the forms, and which they are."""
    line = read_first_line(path)
    if not path.stat().st_size:
        return f"{path}: found an empty file, expected {_describe_all(formats)}"
    delimiters = {candidate.delimiter for candidate in formats}
    found = len(split_line(line, WHITESPACE if WHITESPACE in delimiters else formats[0].delimiter))
    shown = line[:_SHOWN_CHARACTERS]
    return f"{path}:1: found {found} columns ('{shown}'), expected {_describe_all(formats)}"


def _describe_all(formats: Sequence[TableFormat]) -> str:
    return ", or ".join(candidate.describe() for candidate in formats)


def check_unique(table: Table, names: np.ndarray) -> None:
    """Raises ValueError where a trial stands in two rows, and names both lines, or where one has no name."""
    values = names.tolist()
    distinct = set(values)
    if "" in distinct:
        raise ValueError(f"{table.source}:{table.line(values.index(''))}: found a trial without a name")
    if len(distinct) == len(values):
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


def read_spellings(table: Table, column: int, spellings: Mapping[str, object], what: str) -> np.ndarray:
    """Returns what each field of a column stands for: itself, where no spellings are declared."""
    categories = table.categories(column)
    if not spellings:
        return categories.strings()
    unknown = [code for code, value in enumerate(categories.values) if value not in spellings]
    if unknown:
        row = int(np.flatnonzero(np.isin(categories.codes, unknown))[0])
        raise ValueError(
            f"{table.source}:{table.line(row)}: found {what} '{table.value(row, column)}', "
            f"expected one of: {', '.join(sorted(spellings))}"
        )
    meanings = np.empty(len(categories.values), dtype=object)
    meanings[:] = [spellings[value] for value in categories.values]
    return meanings[categories.codes]
