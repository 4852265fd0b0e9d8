"""Large text tables, read fast and strictly: file and line stand in every error."""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from sls.data.tables.columns import Categories, Columns, Texts
from sls.data.tables.formats import WHITESPACE, TableFormat, describe_misfit, match_format
from sls.data.tables.separated_text import SeparatedText, clean, has_single_spaces, tidy
from sls.files import check_is_file
from sls.quotation import quote

FIRST_READ = ("trial", "enrolment", "label", "role", "subset", "score")
"""Columns that every reader of a list needs at once; what a breakdown asks for is read when it does."""
TEXTS = ("trial", "enrolment", "score")
"""Those of them with many distinct values."""
MAX_FIELD_BYTES = 4_096
"""As long as a path can be; to find a name that stands twice takes as much memory for each as for the longest."""
MAX_MAGNITUDE = 1e100
"""Of a number. Sums of squares of far larger ones overflow float64; the largest float32 is 3.4e38."""

_FIELD_ENDS = (b"\n", b"\r", b"\t", b" ", b'"')

logger = logging.getLogger(__name__)


@dataclass
class Table:
    """The rows of a text file, column by column, by our names of the columns."""

    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    form: TableFormat
    places: Mapping[str, int]
    """Position of each column that is read, by our name."""
    num_columns: int
    _columns: dict[int, pa.Array] = field(repr=False)
    """Those that have been read."""
    _unread: SeparatedText | None = field(repr=False)
    """The text, from which the other columns are read when one of them is asked for."""
    _lines: Sequence[int] = field(repr=False)
    """The line of the file, from 1, on which each row begins, that of a header too."""
    _is_ended: bool
    """Whether a blank or a quote ends the last field, so that it cannot be cut."""

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def line(self, row: int) -> int:
        """Returns the line of the file, from 1, on which a row begins."""
        return self._lines[row + bool(self.form.header)]

    def texts(self, name: str) -> Texts:
        """Returns a column as text `(rows,)`; raises ValueError for a field over `MAX_FIELD_BYTES`."""
        return Texts(self._column(name).cast(pa.string()))

    def categories(self, name: str) -> Categories:
        """Returns a column as codes, and raises what `texts` does."""
        return Categories.encode(self._column(name))

    def _column(self, name: str) -> pa.Array:
        place = self.places[name]
        if place not in self._columns and self._unread is not None:
            self._columns |= self._unread.read(set(range(self.num_columns)) - set(self._columns))
            self._unread = None
        column = self._columns[place]
        longest = Texts(getattr(column, "dictionary", column)).longest_bytes()
        if longest > MAX_FIELD_BYTES:
            row = next(row for row, text in enumerate(column.to_pylist()) if len(text.encode()) == longest)
            raise ValueError(
                f"{self.source}:{self.line(row)}: found a field of {longest} bytes, expected at most "
                f"{MAX_FIELD_BYTES}"
            )
        return column

    def names(self) -> Texts:
        """Returns the names of the trials `(rows,)`; raises ValueError for one in two rows, named both, or none."""
        names = self.texts("trial")
        if names.shortest_bytes() and names.are_distinct():
            return names
        first_rows: dict[str, int] = {}
        for row, name in enumerate(names):
            where = f"{self.source}:{self.line(row)}"
            if not name:
                raise ValueError(f"{where}: found a trial without a name")
            if name in first_rows:
                raise ValueError(
                    f"{where}: found trial {quote(name)} a second time "
                    f"(first in line {self.line(first_rows[name])}), expected each trial once"
                )
            first_rows[name] = row
        raise AssertionError(f"{self.source}: every trial has a name and stands there once")

    def floats(self, name: str) -> np.ndarray:
        """Returns a column of numbers to calculate with. Shape: `(rows,)`, float64.

        Warns of a number that ends with the file, since a file may be cut within it.

        Raises:
            ValueError: a field is not a finite number, or beyond `MAX_MAGNITUDE`; names file, line and field.
        """
        texts = self.texts(name)
        numbers = texts.floats()
        bad_rows = np.flatnonzero(~(np.abs(numbers) <= MAX_MAGNITUDE))  # NaN is not
        if len(bad_rows):
            row = int(bad_rows[0])
            is_large = np.isfinite(numbers[row])
            expected = f"one from {-MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g}" if is_large else "a finite number"
            raise ValueError(
                f"{self.source}:{self.line(row)}: found {quote(texts[row])}, expected {expected}"
            )
        if self.places[name] == self.num_columns - 1 and not self._is_ended:
            row = len(self) - 1
            warning = "%s:%d: found %s and no line end; if the file was cut there, the number is not whole"
            logger.warning(warning, self.source, self.line(row), quote(texts[row]))
        return numbers

    def numbers(self, name: str, spellings: Mapping[str, int]) -> np.ndarray:
        """Returns the numbers `(rows,)`, int8, that spellings stand for; raises ValueError for another value."""
        column = self._spelled(name, spellings)
        return np.array([spellings[value] for value in column.values], dtype=np.int8)[column.codes]

    def fields(self, leave_out: Collection[str]) -> Columns:
        """Returns the other columns, made when asked for; raises ValueError for a subset without a name of ours."""
        names = [name for name in self.places if name not in leave_out]
        columns = Columns({name: partial(self.categories, name) for name in names})
        spellings = self.form.subsets
        if "subset" not in self.places or not spellings:
            return columns
        found = self._spelled("subset", spellings)
        subsets = Categories(tuple(spellings[value] for value in found.values), found.codes)
        return columns.add("subset", lambda: subsets)

    def _spelled(self, name: str, spellings: Collection[str]) -> Categories:
        """Returns a column, once each of its values is known."""
        found = self.categories(name)
        unknown = [code for code, value in enumerate(found.values) if value not in spellings]
        if unknown:
            row = int(np.flatnonzero(np.isin(found.codes, unknown))[0])
            raise ValueError(
                f"{self.source}:{self.line(row)}: found {name} {quote(found.values[found.codes[row]])}, "
                f"expected one of: {', '.join(sorted(spellings))}"
            )
        return found


def read_table(path: str | Path, formats: TableFormat | Sequence[TableFormat], place: str = "") -> Table:
    """Reads a text file of equally many columns in each line.

    Args:
        path: The file, in UTF-8. Fields between single characters, as commas, may be quoted.
        formats: Its form; of several, the first that the file's first line fits.
        place: What a message calls the file, where its path is a passing one.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no regular file, is empty or no text, no form fits, or a line has another number of
            columns than the first.
    """
    formats = (formats,) if isinstance(formats, TableFormat) else tuple(formats)
    path = Path(path)
    check_is_file(path)
    form = match_format(path, formats)
    if form is None:
        raise ValueError(describe_misfit(path, formats, place))
    content = path.read_bytes()
    path = Path(place) if place else path
    digest, is_ended = hashlib.sha256(content).hexdigest(), content.endswith(_FIELD_ENDS)
    content = clean(path, content)
    if content.lstrip(b"\t\v\f ")[:1] in b"\n":
        raise ValueError(f"{path}: found an empty first line, expected rows")
    has_header = bool(form.header)
    is_single_spaced = form.delimiter == WHITESPACE and has_single_spaces(content)
    text = SeparatedText(content, " ", has_header, range(1, len(content) + 1))
    if not is_single_spaced:
        text = tidy(path, content, form.delimiter, has_header)
    names = text.first_row()
    twice = next((name for name in names if has_header and names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}:1: found column {quote(twice)} twice, expected each name once")
    if not set(form.header) <= set(names):  # a quoted name went on in the second line
        raise ValueError(f"{path}:1: found {', '.join(map(quote, names))}, expected {form.describe()}")
    places = form.places(names)
    first, texts = ({places[name] for name in wanted if name in places} for wanted in (FIRST_READ, TEXTS))
    try:
        columns = text.read(first, texts)
    except pa.ArrowInvalid:  # a line has another number of fields: to tidy it names it
        text = tidy(path, content, form.delimiter, has_header)
        columns = text.read(first, texts)
    if not len(columns[min(columns)]):
        raise ValueError(f"{path}: found a header and no rows, expected rows")
    pa.default_memory_pool().release_unused()  # what the parser freed: 20 MiB of a key of DF
    unread = text if len(columns) < len(names) else None
    return Table(path, digest, form, places, len(names), columns, unread, text.lines, is_ended)
