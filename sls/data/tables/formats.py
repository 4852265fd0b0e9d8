"""The forms of protocols, keys and score files, by which their first line is known.

The columns of the known corpora stand in `configs/tracks.yaml`.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sls.quotation import count_of, quote

WHITESPACE = "whitespace"
"""The delimiter of the challenges' files: any run of spaces or tabs."""
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", WHITESPACE: WHITESPACE}
IGNORED_COLUMN = "_"

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
        return f"{count_of(len(self.columns), 'column')} ({self.name})"

    def places(self, first_line: Sequence[str]) -> dict[str, int]:
        """Returns the position of each column that is read, by our name, in a file with that first line."""
        if not self.header:
            return {name: place for place, name in enumerate(self.columns) if name != IGNORED_COLUMN}
        places = {name: place for place, name in enumerate(first_line)}
        mapped = {ours: places[name] for ours, name in zip(self.columns, self.header, strict=True)}
        # A column that the format does not name keeps its own name, unless another is mapped to it: a breakdown
        # may ask for it.
        return {name: place for name, place in places.items() if name not in self.header} | mapped


def match_format(path: Path, formats: Sequence[TableFormat]) -> TableFormat | None:
    """Returns the first form that a file's first line fits, or None."""
    line = read_first_line(path)
    return next((candidate for candidate in formats if candidate.matches(line)), None)


def describe_misfit(path: Path, formats: Sequence[TableFormat], place: str = "") -> str:
    """Says in one line that a file has none of the forms, and which they are; `place` stands for its path."""
    where = place or str(path)
    line, expected = read_first_line(path), ", or ".join(candidate.describe() for candidate in formats)
    if not path.stat().st_size:
        return f"{where}: found an empty file, expected {expected}"
    delimiters = {candidate.delimiter for candidate in formats}
    found = len(split_line(line, WHITESPACE if WHITESPACE in delimiters else formats[0].delimiter))
    return f"{where}:1: found {found} columns ({quote(line)}), expected {expected}"


def split_line(line: str, delimiter: str) -> list[str]:
    """Splits one line into its fields."""
    if delimiter == WHITESPACE:
        return _FIELD.findall(line)
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [""])
    return [value.strip(" ") for value in fields]


def read_first_line(path: str | Path) -> str:
    """Reads the first line of a text file, without its end; raises ValueError where it is not UTF-8."""
    with Path(path).open("rb") as file:
        line = file.readline(65_536).split(b"\r", 1)[0]
    try:
        return line.decode("utf-8-sig").rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:1: found bytes that are not UTF-8 text ({error.reason})") from None
