"""Text files as rows of fields with one separator, which Arrow parses.

Where every line of a file is as it should be, Arrow takes it as it is: a key of the challenges has up to 785,281
rows, which it reads in some hundredths of a second. A pass line by line tidies quotes and runs of blanks, and names
the line that is wrong.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from sls.data.tables.formats import WHITESPACE
from sls.quotation import count_of

_BLANKS_AS_SPACES = bytes.maketrans(b"\t\v\f\x1c\x1d\x1e\x1f", b" " * 7)  # what Python takes for white space
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SEPARATOR = "\x1f"  # of tidied fields, in which it does not stand
_OWN_SEPARATOR = re.compile(_SEPARATOR)
_CHECKED_BYTES = 1 << 18
_BLOCK_BYTES = 1 << 20
_CODED = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class SeparatedText:
    """Rows of fields with one separator between two of them, and nothing about them."""

    text: bytes
    separator: str
    has_header: bool
    lines: Sequence[int]
    """The line of the file, from 1, on which each row begins, that of a header too."""

    def first_row(self) -> list[str]:
        """Returns the fields of the first row."""
        end = self.text.find(b"\n")
        return (self.text if end < 0 else self.text[:end]).decode().split(self.separator)

    def read(self, columns: Collection[int], texts: Collection[int] = ()) -> dict[int, pa.Array]:
        """Reads columns at some positions, in one thread: a second made it no faster, and took twice the memory.

        Of columns `texts` have many distinct values; the others come as Arrow's codes.

        Raises:
            pa.ArrowInvalid: a line has another number of fields than the first.
        """
        types = {str(place): pa.string() if place in texts else _CODED for place in sorted(columns)}
        table = arrow_csv.read_csv(
            pa.py_buffer(self.text),
            arrow_csv.ReadOptions(
                column_names=[str(place) for place in range(len(self.first_row()))],
                skip_rows=int(self.has_header),
                use_threads=False,
                block_size=_BLOCK_BYTES if self.separator == " " else min(len(self.text) + 1, 2**31 - 1),
            ),
            arrow_csv.ParseOptions(delimiter=self.separator, quote_char=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(check_utf8=False, column_types=types, include_columns=list(types)),
        )
        parts = table.unify_dictionaries().columns
        del table  # so that the parts of each column go once it is whole
        return {int(name): parts.pop(0).combine_chunks() for name in types}


def clean(path: Path, content: bytes) -> bytes:
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


def has_single_spaces(text: bytes) -> bool:
    """Tells whether one space stands between two fields, and nothing but a newline between two lines."""
    codes = np.frombuffer(text, dtype=np.uint8)
    for start in range(0, len(codes), _CHECKED_BYTES):  # block by block, so that the work stays in the cache
        block = codes[start : start + _CHECKED_BYTES + 1]
        is_blank, is_newline = block <= ord(" "), block == ord("\n")
        if (is_blank[1:] & is_blank[:-1]).any() or (is_newline ^ (block < ord(" "))).any():
            return False
    return bool(codes[0] != ord(" "))


def tidy(path: Path, text: bytes, delimiter: str, has_header: bool) -> SeparatedText:
    """Takes quotes, and blanks about fields, from a `clean` text; raises ValueError for a line of other fields."""
    rows: list[str] = []
    lines: list[int] = []
    num_columns = 0
    for line, fields in _split_rows(path, text, delimiter):
        num_columns = num_columns or len(fields)
        if len(fields) != num_columns:
            found = count_of(len(fields), "column") if any(fields) else "an empty line"
            columns = "" if any(fields) else " columns"
            raise ValueError(f"{path}:{line}: found {found}, expected {num_columns}{columns} as in line 1")
        rows.append(_SEPARATOR.join(fields))
        lines.append(line)
    return SeparatedText("\n".join([*rows, ""]).encode(), _SEPARATOR, has_header, lines)


def _split_rows(path: Path, text: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each row, and the line on which it begins."""
    if delimiter == WHITESPACE:
        spaced = text.translate(_BLANKS_AS_SPACES).rstrip(b" \n").decode()
        _check_text(path, spaced, _CONTROL)
        for line, fields in enumerate(spaced.split("\n"), 1):
            yield line, [value for value in fields.split(" ") if value]
        return
    _check_text(path, text.decode(), _OWN_SEPARATOR)
    quoted = io.StringIO(text.rstrip(b" \n").decode(), newline="")
    rows = csv.reader(quoted, delimiter=delimiter, skipinitialspace=True)
    line = 1
    try:
        for row in rows:
            yield line, [value.replace("\n", " ").strip(" ") for value in row or [""]]
            line = rows.line_num + 1
    except csv.Error as error:  # a quote that is never closed takes in all that follows
        raise ValueError(f"{path}:{rows.line_num}: found a quoted field too long: {error}") from None


def _check_text(path: Path, text: str, refused: re.Pattern[str]) -> None:
    """Refuses a control character, which is no part of a name and parts no two: the file is damaged there."""
    if found := refused.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"{path}:{line}: found the control character U+{ord(found[0]):04X}, expected text")
