"""Large text tables, read fast: one pass over the bytes, then whole columns at a time.

A key of the challenges has up to 785,281 rows. Splitting them line by line takes seconds; here NumPy finds
where every field starts and ends, and a column is turned into strings only when it is asked for.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

WHITESPACE = "whitespace"
"""The delimiter of the challenges' files: any run of spaces or tabs."""
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", WHITESPACE: WHITESPACE}

_NEWLINE = 10
_LAST_SPACE = 32  # bytes up to the space are white space or control characters
_UNIT_SEPARATOR = "\x1f"  # delimits the fields of a CSV file once its quotes are gone
_WORD_BYTES = 8
_WORD_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(_WORD_BYTES + 1)], dtype=np.uint64)
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Categories:
    """A column of few distinct values."""

    values: tuple[str, ...]
    """The distinct values."""
    codes: np.ndarray
    """Index into `values` of each row. Shape: `(rows,)`."""

    def strings(self) -> np.ndarray:
        """Returns the value of each row. Shape: `(rows,)`, of str objects."""
        return np.array(self.values, dtype=object)[self.codes]


@dataclass(frozen=True)
class Table:
    """The rows of a text file, as the places of its fields."""

    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    header: tuple[str, ...] | None
    num_columns: int
    _data: np.ndarray = field(repr=False)
    _starts: np.ndarray = field(repr=False)
    _ends: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self._starts)

    def line(self, row: int) -> int:
        """Returns the line of the file, from 1, on which a row stands."""
        return row + 1 + (self.header is not None)

    def value(self, row: int, column: int) -> str:
        """Returns one field."""
        return bytes(self._data[self._starts[row, column] : self._ends[row, column]]).decode()

    def strings(self, column: int) -> np.ndarray:
        """Returns a column of mostly distinct values. Shape: `(rows,)`, of str objects."""
        data = bytes(self._data)
        spans = zip(self._starts[:, column].tolist(), self._ends[:, column].tolist(), strict=True)
        if data.isascii():
            text = data.decode("ascii")
            values = [text[start:end] for start, end in spans]
        else:
            values = [data[start:end].decode() for start, end in spans]
        column_array = np.empty(len(values), dtype=object)
        column_array[:] = values
        return column_array

    def categories(self, column: int) -> Categories:
        """Returns a column of few distinct values as codes, without making a string for each row."""
        words = self._words(column)
        keys = words[0]
        for word in words[1:]:
            keys = keys * _HASH_FACTOR + word
        unique_keys, first_rows = np.unique(keys, return_index=True)
        codes = np.searchsorted(unique_keys, keys)
        if not all(np.array_equal(word[first_rows][codes], word) for word in words):  # a hash collision
            values, codes = np.unique(self.strings(column), return_inverse=True)
            return Categories(tuple(values.tolist()), codes)
        return Categories(tuple(self.value(int(row), column) for row in first_rows), codes)

    def floats(self, column: int) -> np.ndarray:
        """Returns a column of finite numbers. Shape: `(rows,)`, float64.

        Raises:
            ValueError: a field is not a finite number; names file, line and field.
        """
        words = np.stack(self._words(column), axis=1)
        texts = np.ascontiguousarray(words).view(f"S{_WORD_BYTES * words.shape[1]}").ravel()
        try:
            numbers = texts.astype(np.float64)
        except ValueError:
            numbers = np.array([_float_or_nan(text) for text in texts.tolist()])
        bad_rows = np.flatnonzero(~np.isfinite(numbers))
        if len(bad_rows):
            row = int(bad_rows[0])
            found = self.value(row, column)
            raise ValueError(f"{self.source}:{self.line(row)}: found '{found}', expected a finite number")
        return numbers

    def _words(self, column: int) -> list[np.ndarray]:
        """Returns each field, padded with zeros, as words of 8 bytes; each of shape `(rows,)`, uint64."""
        starts = self._starts[:, column]
        lengths = self._ends[:, column] - starts
        last_word = len(self._data) - _WORD_BYTES
        overlapping = np.ndarray((last_word + 1,), dtype="<u8", buffer=self._data, strides=(1,))
        words = []
        for offset in range(0, max(int(lengths.max(initial=0)), 1), _WORD_BYTES):
            word = overlapping[np.minimum(starts + offset, last_word)]
            words.append(word & _WORD_MASKS[np.clip(lengths - offset, 0, _WORD_BYTES)])
        return words


def read_table(path: str | Path, delimiter: str = WHITESPACE, header: bool = False) -> Table:
    """Reads a text file of equally many columns in each line.

    Args:
        path: the file, in UTF-8.
        delimiter: one character, or `WHITESPACE`. Fields between single characters may be quoted.
        header: whether the first line holds the names of the columns.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, or a line has another number of columns than the first.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (looked in {Path.cwd()})")
    content = path.read_bytes()
    text, delimiter = _normalise(path, content, delimiter)
    if not text:
        raise ValueError(f"{path}: found an empty file, expected rows")
    first_line, _, rest = text.partition(b"\n")
    names = split_line(first_line.decode(), delimiter)
    rows = rest if header else text
    if not rows:
        raise ValueError(f"{path}: found a header and no rows, expected rows")
    # The zeros at the end let the last field be read as whole words.
    data = np.frombuffer(rows + b"\n" + bytes(_WORD_BYTES), dtype=np.uint8)
    places = _find_fields(data[: len(rows) + 1], delimiter, len(names))
    if places is None:
        raise ValueError(_describe_irregular_line(path, rows, delimiter, len(names), 2 if header else 1))
    digest = hashlib.sha256(content).hexdigest()
    return Table(path, digest, tuple(names) if header else None, len(names), data, *places)


def split_line(line: str, delimiter: str) -> list[str]:
    """Splits one line into its fields."""
    return line.split() if delimiter == WHITESPACE else next(csv.reader([line], delimiter=delimiter), [""])


def read_first_line(path: str | Path) -> str:
    """Reads the first line of a text file, without its end; empty for an empty file.

    Raises:
        ValueError: the file is not UTF-8 text.
    """
    with Path(path).open("rb") as file:
        line = file.readline(65_536)
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:1: found bytes that are not UTF-8 text ({error.reason})") from None


def _normalise(path: Path, content: bytes, delimiter: str) -> tuple[bytes, str]:
    """Drops the byte order mark, carriage returns, quotes and empty lines at the end."""
    text = content.removeprefix(b"\xef\xbb\xbf")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}:{line}: found bytes that are not UTF-8 text") from None
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = text.rstrip(b"\n")
    if delimiter == WHITESPACE or b'"' not in text:
        return text, delimiter
    rows = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=delimiter)
    lines = (_UNIT_SEPARATOR.join(value.replace("\n", " ") for value in row) for row in rows)
    return "\n".join(lines).encode(), _UNIT_SEPARATOR


def _find_fields(data: np.ndarray, delimiter: str, num_columns: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds where fields start and end, each `(rows, num_columns)`; None where lines are not alike."""
    line_ends = np.flatnonzero(data == _NEWLINE)
    if delimiter == WHITESPACE:
        is_space = np.empty(len(data) + 1, dtype=bool)
        is_space[0] = True
        np.less_equal(data, _LAST_SPACE, out=is_space[1:])
        edges = np.flatnonzero(is_space[1:] != is_space[:-1])
        starts, ends = edges[0::2], edges[1::2]
    else:
        ends = np.flatnonzero((data == _NEWLINE) | (data == ord(delimiter)))
        starts = np.concatenate([[0], ends[:-1] + 1])
    if len(starts) != len(line_ends) * num_columns:
        return None
    places = (len(line_ends), num_columns)
    starts, ends = starts.reshape(places), ends.reshape(places)
    line_starts = np.concatenate([[0], line_ends[:-1] + 1])
    stands_alone = (starts[:, 0] >= line_starts) & (ends[:, -1] <= line_ends)
    return (starts, ends) if bool(stands_alone.all()) else None


def _describe_irregular_line(
    path: Path, rows: bytes, delimiter: str, num_columns: int, first_line: int
) -> str:
    """Says which line has another number of columns than the first."""
    for number, line in enumerate(rows.decode().split("\n"), start=first_line):
        found = len(line.split()) if delimiter == WHITESPACE else line.count(delimiter) + 1
        if found != num_columns or not line:
            found = found if line.strip() else 0
            return f"{path}:{number}: found {found} columns, expected {num_columns} as in line 1"
    raise AssertionError(f"{path}: every line has {num_columns} columns")


def _float_or_nan(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
