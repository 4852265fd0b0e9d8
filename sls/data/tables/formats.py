"""The forms of protocols, keys and score files, and what is common in reading them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from sls.data.tables.text_columns import Categories, Texts
from sls.data.tables.text_table import WHITESPACE, Table, read_first_line, read_table, split_line
from sls.files import check_is_file
from sls.quotation import quote

IGNORED_COLUMN = "_"


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
        places = {name: place for place, name in enumerate(table.header)}
        mapped = {ours: places[name] for ours, name in zip(self.columns, self.header, strict=True)}
        # A column that the format does not name keeps its own name, unless another is mapped to it: a breakdown
        # may ask for it.
        return {name: place for name, place in places.items() if name not in self.header} | mapped


class Columns(Mapping[str, np.ndarray]):
    """Columns of a table by name, each made when it is first asked for: a key has many, and few are used.

    Each is an array of str objects, shape `(rows,)`; `categories` gives it as codes.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Categories]]) -> None:
        """Prepares columns.

        Args:
            makers: by name, what returns the column.
        """
        self._makers = dict(makers)
        self._made: dict[str, Categories] = {}

    def categories(self, name: str) -> Categories:
        """Returns a column as codes."""
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.categories(name).strings()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __repr__(self) -> str:
        return f"Columns({', '.join(self)})"

    def select(self, rows: np.ndarray) -> Columns:
        """Returns the rows of a Boolean mask, or of row numbers in their order."""
        return Columns({name: partial(self._select_column, name, rows) for name in self})

    def add(self, name: str, make: Callable[[], Categories]) -> Columns:
        """Returns the columns with one more."""
        return Columns({**self._makers, name: make})

    def _select_column(self, name: str, rows: np.ndarray) -> Categories:
        return self.categories(name).select(rows)


def as_columns(columns: Mapping[str, np.ndarray]) -> Columns:
    """Returns columns that are at hand as `Columns`."""
    if isinstance(columns, Columns):
        return columns
    return Columns({name: partial(Categories.encode, values) for name, values in columns.items()})


def make_columns(
    table: Table, places: Mapping[str, int], leave_out: Collection[str]
) -> dict[str, Callable[[], Categories]]:
    """Returns what makes each column of a table, for `Columns`."""
    return {
        name: partial(_read_column, table, place) for name, place in places.items() if name not in leave_out
    }


def _read_column(table: Table, place: int) -> Categories:
    return table.texts(place).categories()


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
    return f"{path}:1: found {found} columns ({quote(line)}), expected {_describe_all(formats)}"


def _describe_all(formats: Sequence[TableFormat]) -> str:
    return ", or ".join(candidate.describe() for candidate in formats)


def read_names(table: Table, column: int) -> Texts:
    """Returns the names of trials. Shape: `(rows,)`.

    Raises:
        ValueError: a trial stands in two rows (both lines are named), or has no name.
    """
    names = table.texts(column)
    unnamed = np.flatnonzero(names.words[0] == 0)
    if len(unnamed):
        raise ValueError(f"{table.source}:{table.line(int(unnamed[0]))}: found a trial without a name")
    if names.are_distinct():
        return names
    first_rows: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in first_rows:
            first_line = table.line(first_rows[name])
            raise ValueError(
                f"{table.source}:{table.line(row)}: found trial {quote(name)} a second time "
                f"(first in line {first_line}), expected each trial once"
            )
        first_rows[name] = row
    raise AssertionError(f"{table.source}: every trial stands there once")


def read_spellings(table: Table, column: int, spellings: Collection[str], what: str) -> Categories:
    """Returns a column whose values are known; any is, where no spellings are declared.

    Raises:
        ValueError: another value; names file, line and value.
    """
    categories = table.texts(column).categories()
    unknown = [code for code, value in enumerate(categories.values) if spellings and value not in spellings]
    if unknown:
        row = int(np.flatnonzero(np.isin(categories.codes, unknown))[0])
        raise ValueError(
            f"{table.source}:{table.line(row)}: found {what} {quote(table.value(row, column))}, "
            f"expected one of: {', '.join(sorted(spellings))}"
        )
    return categories
