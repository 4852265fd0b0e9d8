"""Columns of a list by name: few distinct values each, kept as codes and made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from sls.quotation import quote


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

    def occurring(self) -> list[str]:
        """Returns the values that occur, sorted, each once."""
        return sorted({self.values[code] for code in np.flatnonzero(np.bincount(self.codes))})

    def rename(self, names: Mapping[str, str]) -> Categories:
        """Returns the column with other names of its values; those not given stay."""
        return Categories(tuple(names.get(value, value) for value in self.values), self.codes)

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
        return Columns({name: partial(self._select_column, name, rows) for name in self})

    def add(self, name: str, make: Callable[[], Categories]) -> Columns:
        """Returns the columns with one more."""
        return Columns({**self._makers, name: make})

    def _select_column(self, name: str, rows: np.ndarray) -> Categories:
        return self.categories(name).select(rows)


def as_columns(columns: Mapping[str, np.ndarray]) -> Columns:
    """Returns columns that are at hand as `Columns`."""
    if isinstance(columns, Columns):
        return columns
    return Columns({name: partial(Categories.encode, values) for name, values in columns.items()})
