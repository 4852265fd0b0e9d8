"""Columns of text by the hundred thousand, compared without making a string of each.

A text is kept as its UTF-8 bytes, in words of 8. Half a million names are then found unique, or joined with those
of another file, in some hundredths of a second, where sets and dictionaries of strings take tenths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import overload

import numpy as np

from sls.quotation import quote

WORD_BYTES = 8
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_NEWLINE = 10


@dataclass(frozen=True)
class Categories:
    """A column of few distinct values."""

    values: tuple[str, ...]
    """Every value that occurs; perhaps others, and perhaps one of them twice."""
    codes: np.ndarray
    """Index into `values` of each row. Shape: `(rows,)`."""

    @classmethod
    def encode(cls, strings: np.ndarray) -> Categories:
        """Builds a column from strings, shape `(rows,)`."""
        entries = np.asarray(strings, dtype=object).tolist()
        codes = {value: code for code, value in enumerate(dict.fromkeys(entries))}
        return cls(tuple(codes), np.fromiter(map(codes.__getitem__, entries), np.intp, count=len(entries)))

    def strings(self) -> np.ndarray:
        """Returns the value of each row. Shape: `(rows,)`, of str objects."""
        return np.array(self.values, dtype=object)[self.codes]

    def numbers(self, meanings: Mapping[str, int]) -> np.ndarray:
        """Returns the number that the value of each row stands for. Shape: `(rows,)`, int8.

        Raises:
            ValueError: a value stands for none.
        """
        unknown = [value for value in self.values if value not in meanings]
        if unknown:
            raise ValueError(
                f"found {quote(unknown[0])}, expected one of: {', '.join(meanings) or 'nothing'}"
            )
        return np.array([meanings[value] for value in self.values], dtype=np.int8)[self.codes]

    def rename(self, names: Mapping[str, str]) -> Categories:
        """Returns the column with other names of its values; those not given stay."""
        return Categories(tuple(names.get(value, value) for value in self.values), self.codes)

    def select(self, rows: np.ndarray) -> Categories:
        """Returns the rows of a Boolean mask, or of row numbers in their order."""
        return Categories(self.values, self.codes[rows])


class Texts:
    """A column of texts, which does not change. To compare it there are `differ` and `find`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, words: Sequence[np.ndarray]) -> None:
        """Takes the bytes of the texts.

        Args:
            words: the first 8 bytes of each text, the next 8, and so on, padded with zeros. At least one; shape
                of each: `(texts,)`, little-endian uint64.
        """
        self.words = tuple(words)

    @classmethod
    def encode(cls, texts: Iterable[str]) -> Texts:
        """Builds a column from strings.

        Raises:
            ValueError: one holds a zero byte or a line end.
        """
        strings = list(texts)
        unfit = next((text for text in strings if "\0" in text or "\n" in text), None)
        if unfit is not None:
            raise ValueError(f"found {quote(unfit)}, expected a text without zero bytes and line ends")
        encoded = np.array([text.encode() for text in strings], dtype=np.bytes_)
        num_words = -(-encoded.itemsize // WORD_BYTES)  # an empty text takes a byte, too
        padded = encoded.astype(f"S{WORD_BYTES * num_words}")
        return cls(list(padded.view("<u8").reshape(len(encoded), num_words).T))

    def __len__(self) -> int:
        return len(self.words[0])

    def __eq__(self, other: object) -> bool:
        raise TypeError("texts: found ==, expected differ (text by text) or find")

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    @overload
    def __getitem__(self, rows: int | np.integer) -> str: ...

    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> Texts: ...

    def __getitem__(self, rows: int | np.integer | slice | np.ndarray) -> str | Texts:
        """Returns one text, or those of a slice, of a Boolean mask, or of row numbers in their order."""
        if isinstance(rows, (bool, np.bool_)):
            raise TypeError(f"texts: found row {rows}, expected a number, a slice or an array")
        if isinstance(rows, (int, np.integer)):
            return b"".join(word[rows].tobytes() for word in self.words).rstrip(b"\0").decode()
        return Texts([word[rows] for word in self.words])

    def __repr__(self) -> str:
        return f"Texts({len(self)})"

    def tolist(self) -> list[str]:
        """Returns the texts as strings."""
        padded = np.empty((len(self), WORD_BYTES * len(self.words) + 1), dtype=np.uint8)
        padded[:, :-1] = self.padded_bytes()
        padded[:, -1] = _NEWLINE
        # One text without the padding, split at once: much quicker than a slice for each row.
        return padded[padded != 0].tobytes().decode().split("\n")[:-1]

    def padded_bytes(self) -> np.ndarray:
        """Returns the bytes of each text, padded with zeros. Shape: `(texts, bytes)`, uint8."""
        return np.stack(self.words, axis=1).view(np.uint8)

    @cached_property
    def hashes(self) -> np.ndarray:
        """A number for each text; equal texts have the same. Shape: `(texts,)`, uint64."""
        hashes = np.zeros(len(self), dtype=np.uint64)
        for word in reversed(self.words):
            hashes = hashes * _HASH_FACTOR + word
        return hashes

    def differ(self, others: Texts) -> np.ndarray:
        """Tells which texts are not those of another column of the same length. Shape: `(texts,)`, Boolean."""
        empty = np.zeros(len(self), dtype=np.uint64)
        pairs = zip_longest(self.words, others.words, fillvalue=empty)
        return np.logical_or.reduce([ours != theirs for ours, theirs in pairs])

    def are_distinct(self) -> bool:
        """Tells whether no text occurs twice."""
        hashes = np.sort(self.hashes)
        return not (hashes[1:] == hashes[:-1]).any() or len(set(self)) == len(self)

    def find(self, wanted: Texts) -> np.ndarray:
        """Returns the row of each of other texts, -1 where it is not here; the texts here must be distinct.

        Shape: `(wanted texts,)`, int64.
        """
        if len(self) == len(wanted) and not self.differ(wanted).any():
            return np.arange(len(self))
        # Both in ascending order, so that memory is read as it lies.
        order, wanted_order = np.argsort(self.hashes), np.argsort(wanted.hashes)
        hashes = self.hashes[order]
        if not len(self) or (hashes[1:] == hashes[:-1]).any():  # two texts, one hash
            rows = {text: row for row, text in enumerate(self)}
            return np.array([rows.get(text, -1) for text in wanted], dtype=np.int64)
        places = np.searchsorted(hashes, wanted.hashes[wanted_order])
        found = np.empty(len(wanted), dtype=np.int64)
        found[wanted_order] = order[np.minimum(places, len(self) - 1)]
        found[self[found].differ(wanted)] = -1
        return found

    def categories(self) -> Categories:
        """Returns texts of few distinct values as codes, without making a string for each row."""
        distinct = np.unique(self.hashes)
        codes = np.searchsorted(distinct, self.hashes)
        first_rows = np.empty(len(distinct), dtype=np.int64)
        first_rows[codes[::-1]] = np.arange(len(self) - 1, -1, -1)  # the last to write is the first row
        values = self[first_rows]
        if values[codes].differ(self).any():  # two texts, one hash
            strings, codes = np.unique(np.array(self.tolist(), dtype=object), return_inverse=True)
            return Categories(tuple(strings.tolist()), codes)
        return Categories(tuple(values.tolist()), codes)
