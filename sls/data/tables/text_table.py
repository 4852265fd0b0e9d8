"""Large text tables, read fast: one pass over the bytes, then whole columns at a time.

A key of the challenges has up to 785,281 rows. Splitting them line by line takes seconds; here NumPy finds
where every field starts and ends, and a column is turned into strings only when it is asked for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sls.data.tables.decimals import parse_floats
from sls.data.tables.field_splitting import NEWLINE, WHITESPACE, Places, find_fields
from sls.data.tables.text_columns import WORD_BYTES, Texts
from sls.files import check_is_file
from sls.quotation import quote

DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", WHITESPACE: WHITESPACE}

MAX_FIELD_BYTES = 4_096
"""As long as a path can be; every row of a column takes as much memory as its longest field."""
MAX_MAGNITUDE = 1e100
"""Of a number. Sums of squares of far larger ones overflow float64; the largest float32 is 3.4e38."""

_FIELD = re.compile(r"[^\x00-\x20]+")  # what `find_fields` parts; str.split would part at other spaces too
_UNIT_SEPARATOR = "\x1f"  # delimits the fields of a CSV file once its quotes are gone
_MARGIN_BYTES = 2 * WORD_BYTES  # behind the text, so that its last field can be read as whole words
_FIELD_ENDS = (b"\n", b"\r", b"\t", b" ", b'"')
_WORD_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(WORD_BYTES + 1)], dtype=np.uint64)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """The rows of a text file, as the places of their fields."""

    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    header: tuple[str, ...] | None
    num_columns: int
    _data: np.ndarray = field(repr=False)
    _places: Places = field(repr=False)
    _lines: Sequence[int] = field(repr=False)
    """The line of the file, from 1, on which each row begins, that of the names too."""
    _is_ended: bool
    """Whether a blank or a quote ends the last field, so that it cannot be cut."""

    def __len__(self) -> int:
        return len(self._places.ends)

    def line(self, row: int) -> int:
        """Returns the line of the file, from 1, on which a row begins."""
        return self._lines[row + (self.header is not None)]

    def value(self, row: int, column: int) -> str:
        """Returns one field."""
        start = self._places.before[row, column] + 1
        return bytes(self._data[start : self._places.ends[row, column]]).decode()

    def texts(self, column: int) -> Texts:
        """Returns a column as text. Shape: `(rows,)`.

        Raises:
            ValueError: a field is longer than `MAX_FIELD_BYTES`; names file and line.
        """
        starts = self._places.before[:, column] + 1
        lengths = self._places.ends[:, column] - starts
        longest = int(lengths.max(initial=0))
        if longest > MAX_FIELD_BYTES:
            raise ValueError(
                f"{self.source}:{self.line(int(lengths.argmax()))}: found a field of {longest} bytes, expected at "
                f"most {MAX_FIELD_BYTES}"
            )
        last_word = len(self._data) - WORD_BYTES
        overlapping = np.ndarray((last_word + 1,), dtype="<u8", buffer=self._data, strides=(1,))
        words = []
        for offset in range(0, max(longest, 1), WORD_BYTES):
            word = overlapping[np.minimum(starts + offset, last_word)]
            words.append(word & _WORD_MASKS[np.clip(lengths - offset, 0, WORD_BYTES)])
        return Texts(words)

    def floats(self, column: int) -> np.ndarray:
        """Returns a column of numbers to calculate with. Shape: `(rows,)`, float64.

        Warns of a number that ends with the file, since a file may be cut within it.

        Raises:
            ValueError: a field is not a finite number, or beyond `MAX_MAGNITUDE`; names file, line and field.
        """
        numbers = parse_floats(self.texts(column).padded_bytes())
        bad_rows = np.flatnonzero(~(np.abs(numbers) <= MAX_MAGNITUDE))  # NaN is not
        if len(bad_rows):
            row = int(bad_rows[0])
            found = quote(self.value(row, column))
            is_large = np.isfinite(numbers[row])
            expected = f"one from {-MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}" if is_large else "a finite number"
            raise ValueError(f"{self.source}:{self.line(row)}: found {found}, expected {expected}")
        if column == self.num_columns - 1 and not self._is_ended:
            row = len(self) - 1
            warning = "%s:%d: found %s and no line end; if the file was cut there, the number is not whole"
            logger.warning(warning, self.source, self.line(row), quote(self.value(row, column)))
        return numbers


def read_table(path: str | Path, delimiter: str = WHITESPACE, header: bool = False) -> Table:
    """Reads a text file of equally many columns in each line.

    Args:
        path: the file, in UTF-8.
        delimiter: one character, or `WHITESPACE`. Fields between single characters may be quoted.
        header: whether the first line holds the names of the columns.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no regular file, is empty or no text, or a line has another number of columns than
            the first.
    """
    path = Path(path)
    check_is_file(path)
    content = _read_content(path)
    digest = hashlib.sha256(memoryview(content)[:-_MARGIN_BYTES]).hexdigest()
    is_ended = content.endswith(_FIELD_ENDS, 0, len(content) - _MARGIN_BYTES)
    text, delimiter, lines = _normalise(path, content, delimiter)
    first_line = bytes(text[: text.find(b"\n")])
    if not first_line.strip():
        raise ValueError(f"{path}: found an empty first line, expected rows")
    names = split_line(first_line.decode(), delimiter)
    if header and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}:1: found column {quote(twice)} twice, expected each name once")
    start = len(first_line) + 1 if header else 0
    if len(text) - _MARGIN_BYTES <= start:
        raise ValueError(f"{path}: found a header and no rows, expected rows")
    data = np.frombuffer(text, dtype=np.uint8)
    rows = data[: len(data) - _MARGIN_BYTES]
    places = find_fields(rows, start, delimiter, len(names))
    if places is None:
        raise ValueError(_describe_irregular_line(path, rows.tobytes(), delimiter, len(names), lines))
    return Table(path, digest, tuple(names) if header else None, len(names), data, places, lines, is_ended)


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


def _read_content(path: Path) -> bytearray:
    """Reads a file, with zeros behind it: copies of a large file would cost as much as all the rest."""
    content = bytearray(path.stat().st_size + _MARGIN_BYTES)
    with path.open("rb") as file:
        num_bytes = file.readinto(memoryview(content)[:-_MARGIN_BYTES])
    if num_bytes != len(content) - _MARGIN_BYTES:
        raise ValueError(f"{path}: found {num_bytes} bytes, expected {len(content) - _MARGIN_BYTES}")
    return content


def _normalise(path: Path, content: bytearray, delimiter: str) -> tuple[bytearray, str, Sequence[int]]:
    """Drops the byte order mark, carriage returns, quotes, spaces about fields, and empty lines at the end.

    Returns:
        The text, its last line ended by one newline, and the margin of zeros; the delimiter, which changes
        where there were quotes; and the line of the file on which each line of the text begins.
    """
    text = content
    lines: Sequence[int] = range(1, len(text))
    zero = text.find(0, 0, len(text) - _MARGIN_BYTES)
    if zero >= 0:
        line = text.count(b"\n", 0, zero) + 1
        raise ValueError(f"{path}:{line}: found a zero byte, expected UTF-8 text")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}:{line}: found bytes that are not UTF-8 text") from None
        text = text.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if delimiter != WHITESPACE and b'"' in text:
        text, lines = _unquote(path, text[:-_MARGIN_BYTES].decode(), delimiter)
        delimiter = _UNIT_SEPARATOR
    elif delimiter != WHITESPACE:
        text = _strip_fields(text, delimiter.encode())
    blanks = b" \t\n" if delimiter == WHITESPACE else b" \n"
    end = len(text) - _MARGIN_BYTES
    while end and text[end - 1] in blanks:
        end -= 1
    text[end] = NEWLINE
    text[end + 1 :] = bytes(_MARGIN_BYTES)
    return text, delimiter, lines


def _unquote(path: Path, quoted: str, delimiter: str) -> tuple[bytearray, list[int]]:
    """Returns the rows as lines of fields between `_UNIT_SEPARATOR`, with the margin; and where each begins."""
    rows = csv.reader(io.StringIO(quoted, newline=""), delimiter=delimiter, skipinitialspace=True)
    unquoted, lines = [], [1]
    try:
        for row in rows:
            unquoted.append(_UNIT_SEPARATOR.join(value.replace("\n", " ").strip(" ") for value in row))
            lines.append(rows.line_num + 1)
    except csv.Error as error:  # a quote that is never closed takes in all that follows
        raise ValueError(f"{path}:{rows.line_num}: found a quoted field too long: {error}") from None
    return bytearray("\n".join(unquoted).encode() + bytes(_MARGIN_BYTES)), lines


def _strip_fields(text: bytearray, delimiter: bytes) -> bytearray:
    """Drops the spaces about delimiters and at both ends of each line but the end of the last."""
    data = np.frombuffer(text, dtype=np.uint8)
    spaces = np.flatnonzero(data == ord(" "))  # far quicker than to search for each pair of bytes
    # Before the first byte stands the last of the margin, and the margin behind the last space.
    beside = np.concatenate([data[spaces - 1], data[spaces + 1]])
    for separator in (delimiter, b"\n"):
        if (beside == ord(separator)).any():
            text = bytearray(re.sub(b" *%b *" % separator, separator, text))
    return text.lstrip(b" ") if text.startswith(b" ") else text


def _describe_irregular_line(
    path: Path, text: bytes, delimiter: str, num_columns: int, lines: Sequence[int]
) -> str:
    """Says which line has another number of columns than the first."""
    for number, line in zip(lines, text.decode().removesuffix("\n").split("\n"), strict=False):
        found = len(_FIELD.findall(line)) if delimiter == WHITESPACE else line.count(delimiter) + 1
        if not line.strip():
            return f"{path}:{number}: found an empty line, expected {num_columns} columns as in line 1"
        if found != num_columns:
            return f"{path}:{number}: found {found} columns, expected {num_columns} as in line 1"
    raise AssertionError(f"{path}: every line has {num_columns} columns")
