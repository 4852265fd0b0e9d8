"""Large text tables, read fast and strictly: Arrow parses them, and what it does not take is looked at in Python.

A key of the challenges has up to 785,281 rows. Where every line is as it should be, Arrow's parser reads them in
some hundredths of a second; a pass line by line tidies quotes and runs of blanks, and names the line that is wrong.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from sls.data.tables.text_columns import SeparatedText, Texts
from sls.files import check_is_file
from sls.quotation import quote

WHITESPACE = "whitespace"
"""The delimiter of the challenges' files: any run of spaces or tabs."""
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", WHITESPACE: WHITESPACE}

MAX_FIELD_BYTES = 4_096
"""As long as a path can be; to find a name that stands twice takes as much memory for each as for the longest."""
MAX_MAGNITUDE = 1e100
"""Of a number. Sums of squares of far larger ones overflow float64; the largest float32 is 3.4e38."""

_CONTROLS_AS_SPACES = bytes(code if code > 32 or code == 10 else 32 for code in range(256))
_FIELD_ENDS = (b"\n", b"\r", b"\t", b" ", b'"')
_SEPARATOR = "\x1f"  # of tidied fields, in which it is a blank
_CHECKED_BYTES = 1 << 18

logger = logging.getLogger(__name__)


@dataclass
class Table:
    """The rows of a text file, column by column."""

    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    header: tuple[str, ...] | None
    num_columns: int
    _columns: dict[int, Texts] = field(repr=False)
    """Those that have been read."""
    _unread: SeparatedText | None = field(repr=False)
    """The text, from which the other columns are read when one of them is asked for."""
    _lines: Sequence[int] = field(repr=False)
    """The line of the file, from 1, on which each row begins, that of the names too."""
    _is_ended: bool
    """Whether a blank or a quote ends the last field, so that it cannot be cut."""

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def line(self, row: int) -> int:
        """Returns the line of the file, from 1, on which a row begins."""
        return self._lines[row + (self.header is not None)]

    def texts(self, column: int) -> Texts:
        """Returns a column as text. Shape: `(rows,)`.

        Raises:
            ValueError: a field is longer than `MAX_FIELD_BYTES`; names file and line.
        """
        if column not in self._columns and self._unread is not None:
            self._columns |= self._unread.read(set(range(self.num_columns)) - set(self._columns))
            self._unread = None
        texts = self._columns[column]
        longest = texts.longest_bytes()
        if longest > MAX_FIELD_BYTES:
            line = self.line(next(row for row, text in enumerate(texts) if len(text.encode()) == longest))
            raise ValueError(
                f"{self.source}:{line}: found a field of {longest} bytes, expected at most {MAX_FIELD_BYTES}"
            )
        return texts

    def floats(self, column: int) -> np.ndarray:
        """Returns a column of numbers to calculate with. Shape: `(rows,)`, float64.

        Warns of a number that ends with the file, since a file may be cut within it.

        Raises:
            ValueError: a field is not a finite number, or beyond `MAX_MAGNITUDE`; names file, line and field.
        """
        texts = self.texts(column)
        numbers = texts.floats()
        bad_rows = np.flatnonzero(~(np.abs(numbers) <= MAX_MAGNITUDE))  # NaN is not
        if len(bad_rows):
            row = int(bad_rows[0])
            is_large = np.isfinite(numbers[row])
            expected = f"one from {-MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}" if is_large else "a finite number"
            raise ValueError(
                f"{self.source}:{self.line(row)}: found {quote(texts[row])}, expected {expected}"
            )
        if column == self.num_columns - 1 and not self._is_ended:
            row = len(self) - 1
            warning = "%s:%d: found %s and no line end; if the file was cut there, the number is not whole"
            logger.warning(warning, self.source, self.line(row), quote(texts[row]))
        return numbers


def read_table(
    path: str | Path,
    delimiter: str = WHITESPACE,
    header: bool = False,
    first_columns: Collection[int] | None = None,
) -> Table:
    """Reads a text file of equally many columns in each line.

    Args:
        path: the file, in UTF-8.
        delimiter: one character, or `WHITESPACE`. Fields between single characters may be quoted.
        header: whether the first line holds the names of the columns.
        first_columns: columns that will be asked for; the others are read when one of them is. By default
            all are read.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no regular file, is empty or no text, or a line has another number of columns than
            the first.
    """
    path = Path(path)
    check_is_file(path)
    content = path.read_bytes()
    digest, is_ended = hashlib.sha256(content).hexdigest(), content.endswith(_FIELD_ENDS)
    content = _clean(path, content)
    if content.lstrip(b"\t\v\f ")[:1] in b"\n":
        raise ValueError(f"{path}: found an empty first line, expected rows")
    text, lines, columns = _separate(path, content, delimiter, header, first_columns)
    if not columns or not len(columns[min(columns)]):
        raise ValueError(f"{path}: found a header and no rows, expected rows")
    names = text.split_first_line()
    unread = text if len(columns) < len(names) else None
    return Table(path, digest, tuple(names) if header else None, len(names), columns, unread, lines, is_ended)


def _separate(
    path: Path, content: bytes, delimiter: str, header: bool, first_columns: Collection[int] | None
) -> tuple[SeparatedText, Sequence[int], dict[int, Texts]]:
    """Returns the text with one separator between fields, the line of each row, and the first columns."""
    if delimiter == WHITESPACE and _has_single_spaces(content):
        text = SeparatedText(content, " ", header)
        if header:
            _check_header(path, text.split_first_line())
        with suppress(pa.ArrowInvalid):  # a line has another number of fields: below it is named
            return text, range(1, len(content) + 1), text.read(first_columns)
    tidied, lines = _tidy(path, content, delimiter, header)
    text = SeparatedText(tidied, _SEPARATOR, header)
    return text, lines, text.read(first_columns)


def _check_header(path: Path, names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}:1: found column {quote(twice)} twice, expected each name once")


def _clean(path: Path, content: bytes) -> bytes:
    """Refuses what is no text; drops the byte order mark, carriage returns, and what is empty at the end."""
    zero = content.find(b"\0")
    if zero >= 0:
        line = content.count(b"\n", 0, zero) + 1
        raise ValueError(f"{path}:{line}: found a zero byte, expected UTF-8 text")
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}:{line}: found bytes that are not UTF-8 text") from None
        content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if content.endswith(b"\n") and content[-2:-1] not in b" \n":
        return content  # as most files are: a copy of a large one takes time and memory
    return content.rstrip(b" \n")


def _has_single_spaces(text: bytes) -> bool:
    """Tells whether one space stands between two fields, and nothing but a newline between two lines."""
    codes = np.frombuffer(text, dtype=np.uint8)
    for start in range(0, len(codes), _CHECKED_BYTES):  # block by block, so that the work stays in the cache
        block = codes[start : start + _CHECKED_BYTES + 1]
        is_blank, is_newline = block <= ord(" "), block == ord("\n")
        if (is_blank[1:] & is_blank[:-1]).any() or (is_newline ^ (block < ord(" "))).any():
            return False
    return bool(codes[0] != ord(" "))


def _tidy(path: Path, text: bytes, delimiter: str, header: bool) -> tuple[bytes, list[int]]:
    """Puts `_SEPARATOR` between the fields of each row.

    Returns:
        The text, and the line of the file on which each row begins.

    Raises:
        ValueError: a line has another number of fields than the first, or a quote takes in all that follows.
    """
    rows: list[str] = []
    lines: list[int] = []
    num_columns = 0
    for line, fields in _split_rows(path, text, delimiter):
        if header and not rows:
            _check_header(path, fields)
        num_columns = num_columns or len(fields)
        if len(fields) != num_columns:
            found = f"{len(fields)} columns" if any(fields) else "an empty line"
            columns = "" if any(fields) else " columns"
            raise ValueError(f"{path}:{line}: found {found}, expected {num_columns}{columns} as in line 1")
        rows.append(_SEPARATOR.join(fields))
        lines.append(line)
    return "\n".join([*rows, ""]).encode(), lines


def _split_rows(path: Path, text: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each row, and the line on which it begins."""
    if delimiter == WHITESPACE:
        spaced = text.translate(_CONTROLS_AS_SPACES).rstrip().decode()
        for line, fields in enumerate(spaced.split("\n"), 1):
            yield line, [value for value in fields.split(" ") if value]
        return
    quoted = io.StringIO(text.rstrip(b" \n").decode().replace(_SEPARATOR, " "), newline="")
    rows = csv.reader(quoted, delimiter=delimiter, skipinitialspace=True)
    line = 1
    try:
        for row in rows:
            yield line, [value.replace("\n", " ").strip(" ") for value in row or [""]]
            line = rows.line_num + 1
    except csv.Error as error:  # a quote that is never closed takes in all that follows
        raise ValueError(f"{path}:{rows.line_num}: found a quoted field too long: {error}") from None
