"""The forms of protocols, keys and score files, and what is common in reading them."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from sls.data.tables.columns import Categories, Columns
from sls.data.tables.text_columns import Texts
from sls.data.tables.text_table import WHITESPACE, Table, read_table
from sls.files import check_is_file
from sls.quotation import quote

IGNORED_COLUMN = "_"
FIRST_READ = ("trial", "enrolment", "label", "role", "subset", "score")
"""Columns that every reader of a list needs at once; what a breakdown asks for is read when it does."""

_FIELD = re.compile(r"[^\x00-\x20]+")  # str.split would part at other spaces too


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

    def places(self, header: Sequence[str] | None) -> dict[str, int]:
        """Returns the position of each column that is read, by our name, in a file with or without a header."""
        if header is None:
            return {name: place for place, name in enumerate(self.columns) if name != IGNORED_COLUMN}
        places = {name: place for place, name in enumerate(header)}
        mapped = {ours: places[name] for ours, name in zip(self.columns, self.header, strict=True)}
        # A column that the format does not name keeps its own name, unless another is mapped to it: a breakdown
        # may ask for it.
        return {name: place for name, place in places.items() if name not in self.header} | mapped

    def first_places(self) -> list[int] | None:
        """Returns the positions of `FIRST_READ`; None where only a header tells them."""
        return None if self.header else [i for i, name in enumerate(self.columns) if name in FIRST_READ]


@dataclass(frozen=True)
class FormattedTable:
    """A table whose columns have our names."""

    table: Table
    form: TableFormat
    places: Mapping[str, int]
    """Position of each column that is read, by our name."""

    def texts(self, name: str) -> Texts:
        """Returns a column as text. Shape: `(rows,)`."""
        return self.table.texts(self.places[name])

    def names(self) -> Texts:
        """Returns the names of the trials. Shape: `(rows,)`.

        Raises:
            ValueError: a trial stands in two rows (both lines are named), or has no name.
        """
        names = self.texts("trial")
        if names.shortest_bytes() and names.are_distinct():
            return names
        first_rows: dict[str, int] = {}
        for row, name in enumerate(names):
            where = f"{self.table.source}:{self.table.line(row)}"
            if not name:
                raise ValueError(f"{where}: found a trial without a name")
            if name in first_rows:
                raise ValueError(
                    f"{where}: found trial {quote(name)} a second time "
                    f"(first in line {self.table.line(first_rows[name])}), expected each trial once"
                )
            first_rows[name] = row
        raise AssertionError(f"{self.table.source}: every trial has a name and stands there once")

    def floats(self, name: str) -> np.ndarray:
        """Returns a column of finite numbers. Shape: `(rows,)`, float64."""
        return self.table.floats(self.places[name])

    def numbers(self, name: str, spellings: Mapping[str, int]) -> np.ndarray:
        """Returns the numbers that the spellings in a column stand for. Shape: `(rows,)`, int8.

        Raises:
            ValueError: another value; names file, line and value.
        """
        return self._spelled(name, spellings).numbers(spellings)

    def fields(self, leave_out: Collection[str]) -> Columns:
        """Returns the other columns, each made when it is first asked for; subsets have the names that we give them.

        Raises:
            ValueError: an unknown subset; names file, line and value.
        """
        names = [name for name in self.places if name not in leave_out]
        columns = Columns({name: partial(self._encode, name) for name in names})
        if "subset" in self.places:
            subsets = self._spelled("subset", self.form.subsets).rename(self.form.subsets)
            columns = columns.add("subset", lambda: subsets)
        return columns

    def _encode(self, name: str) -> Categories:
        return self.texts(name).categories()

    def _spelled(self, name: str, spellings: Collection[str]) -> Categories:
        """Returns a column whose values are known; any is, where no spellings are declared."""
        found = self._encode(name)
        unknown = [code for code, value in enumerate(found.values) if spellings and value not in spellings]
        if unknown:
            row = int(np.flatnonzero(np.isin(found.codes, unknown))[0])
            raise ValueError(
                f"{self.table.source}:{self.table.line(row)}: found {name} "
                f"{quote(found.values[found.codes[row]])}, expected one of: {', '.join(sorted(spellings))}"
            )
        return found


def read_formatted_table(path: str | Path, formats: TableFormat | Sequence[TableFormat]) -> FormattedTable:
    """Reads a table of the first form that its first line fits.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no form fits, or lines are not alike.
    """
    formats = (formats,) if isinstance(formats, TableFormat) else tuple(formats)
    path = Path(path)
    check_is_file(path)
    form = match_format(path, formats)
    if form is None:
        raise ValueError(describe_misfit(path, formats))
    table = read_table(path, form.delimiter, bool(form.header), form.first_places())
    return FormattedTable(table, form, form.places(table.header))


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


def split_line(line: str, delimiter: str) -> list[str]:
    """Splits one line into its fields."""
    if delimiter == WHITESPACE:
        return _FIELD.findall(line)
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [""])
    return [value.strip(" ") for value in fields]


def read_first_line(path: str | Path) -> str:
    """Reads the first line of a text file, without its end; empty for an empty file.

    Raises:
        ValueError: the file is not UTF-8 text.
    """
    with Path(path).open("rb") as file:
        line = file.readline(65_536).split(b"\r", 1)[0]
    try:
        return line.decode("utf-8-sig").rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:1: found bytes that are not UTF-8 text ({error.reason})") from None
