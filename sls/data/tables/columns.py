"""Columns of many rows: texts as Arrow arrays, without a Python string of each, and few distinct values as codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_WORD_BYTES = 8
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)

# Arrow's own keeps much of what is freed: an evaluation of full size took a sixth more memory.
pa.set_memory_pool(pa.system_memory_pool())


class Texts:
    """A column of texts, which does not change. To compare it there are `differ` and `find`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: pa.StringArray) -> None:
        """Takes texts of which none is missing."""
        self._array = array

    @classmethod
    def encode(cls, texts: Iterable[str]) -> Texts:
        """Builds a column from strings."""
        return cls(pa.array(list(texts), pa.string()))

    def __len__(self) -> int:
        return len(self._array)

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
        if isinstance(rows, (int, np.integer)):
            return self._array[int(rows)].as_py()
        numbers = np.ascontiguousarray(np.arange(len(self))[rows])
        # Not pa.array, which imports pandas to see whether it is given a column of that.
        taken = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
        return Texts(self._array.take(taken))

    def tolist(self) -> list[str]:
        """Returns the texts as strings."""
        return self._array.to_pylist()

    def differ(self, others: Texts) -> np.ndarray:
        """Tells which texts are not those of another column of the same length. Shape: `(texts,)`, Boolean."""
        return _to_numpy(pc.not_equal(self._array, others._array).cast(pa.uint8())).astype(bool)

    def shortest_bytes(self) -> int:
        """Returns the length of the shortest text, in bytes."""
        return pc.min(pc.binary_length(self._array)).as_py() or 0

    def longest_bytes(self) -> int:
        """Returns the length of the longest text, in bytes."""
        return pc.max(pc.binary_length(self._array)).as_py() or 0

    def are_distinct(self) -> bool:
        """Tells whether no text occurs twice."""
        hashes = np.sort(self._hashes)
        return not (hashes[1:] == hashes[:-1]).any() or len(set(self)) == len(self)

    def find(self, wanted: Texts) -> np.ndarray:
        """Returns the row `(wanted texts,)`, int64, of other texts, -1 for none; those here must be distinct."""
        if self._array.equals(wanted._array):
            return np.arange(len(self))
        # Both in ascending order, so that memory is read as it lies.
        order, wanted_order = np.argsort(self._hashes), np.argsort(wanted._hashes)
        hashes = self._hashes[order]
        if not len(self) or (hashes[1:] == hashes[:-1]).any():  # two texts, one hash
            return _to_numpy(pc.fill_null(pc.index_in(wanted._array, self._array), -1)).astype(np.int64)
        places = np.searchsorted(hashes, wanted._hashes[wanted_order])
        found = np.empty(len(wanted), dtype=np.int64)
        found[wanted_order] = order[np.minimum(places, len(self) - 1)]
        found[self[found].differ(wanted)] = -1
        return found

    @cached_property
    def _hashes(self) -> np.ndarray:
        """A number for each text; equal texts have the same. Shape: `(texts,)`, uint64.

        To sort them takes a tenth of the time and memory of Arrow's `count_distinct`, a quarter of `index_in`.
        """
        num_words = max(-(-self.longest_bytes() // _WORD_BYTES), 1)
        padded = pc.ascii_rpad(self._array, num_words * _WORD_BYTES, "\0").buffers()[2]
        hashes = np.zeros(len(self), dtype=np.uint64)
        if len(self):
            for word in reversed(np.frombuffer(padded, dtype="<u8").reshape(len(self), num_words).T):
                hashes = hashes * _HASH_FACTOR + word
        return hashes

    def floats(self) -> np.ndarray:
        """Returns the numbers `(texts,)` of texts, to the bits of Python's `float`, NaN for none or with `_`."""
        try:
            return _to_numpy(pc.cast(self._array, pa.float64()))
        except pa.ArrowInvalid:  # a spelling that Arrow does not know, as `+1`, or no number
            return np.array([_float_or_nan(text) for text in self.tolist()])


@dataclass(frozen=True)
class Categories:
    """A column of few distinct values."""

    values: tuple[str, ...]
    """Every value that occurs; perhaps others, and perhaps one of them twice."""
    codes: np.ndarray
    """Index into `values` of each row. Shape: `(rows,)`."""

    @classmethod
    def encode(cls, column: pa.Array) -> Categories:
        """Builds a column from texts, or from codes of texts."""
        encoded = column.dictionary_encode()
        return cls(tuple(encoded.dictionary.to_pylist()), _to_numpy(encoded.indices))

    def strings(self) -> np.ndarray:
        """Returns the value of each row. Shape: `(rows,)`, of str objects."""
        return np.array(self.values, dtype=object)[self.codes]

    def occurring(self) -> list[str]:
        """Returns the values that occur, sorted, each once."""
        return sorted({self.values[code] for code in np.flatnonzero(np.bincount(self.codes))})

    def select(self, rows: np.ndarray) -> Categories:
        """Returns the rows of a Boolean mask, or of row numbers in their order."""
        return Categories(self.values, self.codes[rows])


class Columns(Mapping[str, np.ndarray]):
    """Columns of a table by name, each made when it is first asked for: a key has many, and few are used.

    Each is an array of str objects, shape `(rows,)`; `categories` gives it as codes.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Categories]]) -> None:
        """Takes, by name, what returns each column."""
        self._makers = {name: cache(make) for name, make in makers.items()}

    @classmethod
    def encode(cls, columns: Mapping[str, Iterable[str]]) -> Columns:
        """Builds columns from strings."""
        arrays = {name: pa.array(list(values), pa.string()) for name, values in columns.items()}
        return cls({name: partial(Categories.encode, array) for name, array in arrays.items()})

    def categories(self, name: str) -> Categories:
        """Returns a column as codes."""
        return self._makers[name]()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.categories(name).strings()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def select(self, rows: np.ndarray) -> Columns:
        """Returns the rows of a Boolean mask, or of row numbers in their order."""
        return Columns({name: partial(self._select_one, name, rows) for name in self})

    def _select_one(self, name: str, rows: np.ndarray) -> Categories:
        return self.categories(name).select(rows)

    def add(self, name: str, make: Callable[[], Categories]) -> Columns:
        """Returns the columns with one more."""
        return Columns({**self._makers, name: make})


def _to_numpy(array: pa.Array) -> np.ndarray:
    """Returns numbers without copying them; Arrow's own `to_numpy` imports pandas first."""
    return np.from_dlpack(array)


def _float_or_nan(text: str) -> float:
    try:
        return float("nan") if "_" in text or not text.isascii() else float(text)
    except ValueError:
        return float("nan")
