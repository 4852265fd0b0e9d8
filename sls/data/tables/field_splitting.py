"""Where the fields of a text table stand in its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

WHITESPACE = "whitespace"
"""The delimiter of the challenges' files: any run of spaces or tabs."""
NEWLINE = 10

_LAST_SPACE = 32  # bytes up to the space are white space or control characters
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class Places:
    """Where the fields of a table stand in its bytes."""

    before: np.ndarray
    """The byte before each field. Shape: `(rows, columns)`."""
    ends: np.ndarray
    """The byte after each field. Shape: `(rows, columns)`."""


@dataclass(frozen=True)
class _Separators:
    """The separators of one block of a text."""

    places: np.ndarray
    """Shape: `(separators,)`."""
    num_lines: int
    """How many of them are newlines."""
    has_neighbours: bool
    """Whether two of them follow each other, or the first begins the text."""


def find_fields(rows: np.ndarray, start: int, delimiter: str, num_columns: int) -> Places | None:
    """Finds the fields of the lines of a text.

    Args:
        rows: the bytes of the text, a newline at the end of each line. Shape: `(bytes,)`, uint8.
        start: where to begin.
        delimiter: one character, or `WHITESPACE`.
        num_columns: the number of fields in each line.

    Returns:
        Their places, or None where some line has another number of fields.
    """
    found = list(_find_separators(rows, start, delimiter))
    bounds = np.concatenate([np.array([start - 1], dtype=np.int32), *(block.places for block in found)])
    ends = bounds[1:]
    num_rows = sum(block.num_lines for block in found)
    has_all = (
        len(ends) == num_rows * num_columns and (rows[ends[num_columns - 1 :: num_columns]] == NEWLINE).all()
    )
    is_parted_once = delimiter != WHITESPACE or not any(block.has_neighbours for block in found)
    if has_all and is_parted_once:
        return Places(bounds[:-1].reshape(-1, num_columns), ends.reshape(-1, num_columns))
    return _find_fields_between_runs(rows, start, num_columns) if delimiter == WHITESPACE else None


def _find_separators(rows: np.ndarray, start: int, delimiter: str) -> Iterator[_Separators]:
    """Yields separators and newlines, block by block, so that the work stays in the cache."""
    place_type = np.int32 if len(rows) < np.iinfo(np.int32).max else np.int64
    for block_start in range(start, len(rows), _BLOCK_BYTES):
        block = rows[block_start : block_start + _BLOCK_BYTES]
        is_newline = block == NEWLINE
        is_space = delimiter == WHITESPACE
        is_separator = block <= _LAST_SPACE if is_space else is_newline | (block == ord(delimiter))
        is_after_separator = block_start == start or rows[block_start - 1] <= _LAST_SPACE
        has_neighbours = bool(is_separator[0] and is_after_separator) or bool(
            (is_separator[1:] & is_separator[:-1]).any()
        )
        places = np.flatnonzero(is_separator) + block_start
        yield _Separators(places.astype(place_type), int(np.count_nonzero(is_newline)), has_neighbours)


def _find_fields_between_runs(rows: np.ndarray, start: int, num_columns: int) -> Places | None:
    """As `find_fields`, for fields parted by several spaces, and lines that begin or end with some."""
    is_space = np.concatenate([[True], rows[start:] <= _LAST_SPACE])
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + start
    line_ends = np.flatnonzero(rows[start:] == NEWLINE) + start
    if len(edges) != 2 * num_columns * len(line_ends):
        return None
    starts = edges[0::2].reshape(-1, num_columns)
    ends = edges[1::2].reshape(-1, num_columns)
    line_starts = np.concatenate([[start], line_ends[:-1] + 1])
    stands_alone = (starts[:, 0] >= line_starts) & (ends[:, -1] <= line_ends)
    return Places(starts - 1, ends) if bool(stands_alone.all()) else None
