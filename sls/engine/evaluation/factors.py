"""What a key says of its trials, as codes, by which they are grouped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sls.data.tables.columns import Categories, as_columns
from sls.data.tables.score_files import JoinedScores
from sls.metrics.ranking import Ranking

UNKNOWN = "-"
"""What a key holds where nothing is known."""
SPOOF_FIELDS = ("attack", "vocoder")
"""Fields that describe how a trial was spoofed."""
SPEAKER, ATTACK = "speaker", "attack"


@dataclass(frozen=True)
class Factor:
    """One column of a key."""

    name: str
    values: tuple[str, ...]
    """In natural order: A2 before A10."""
    codes: NDArray[np.intp]
    """Index into `values` of each trial, shape `(trials,)`."""
    is_spoof_only: bool
    """Whether a value selects spoofed trials, against all bona fide ones; otherwise it selects both."""
    is_single: bool = False
    """Whether there is one value only, so that nothing is broken down by it."""

    def split(self, ranking: Ranking) -> Iterator[tuple[str, Ranking]]:
        """Yields the ranked trials of each value that occurs, in the order of the values."""
        ranks = np.arange(ranking.trials.size)
        bonafide = ranks[:0]
        if self.is_spoof_only:
            bonafide, ranks = ranks[ranking.is_bonafide], ranks[~ranking.is_bonafide]
        codes = self.codes[ranking.trials[ranks]]
        order = np.argsort(codes.astype(np.uint16 if len(self.values) < 2**16 else np.int64), kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(self.values)))])
        for code, value in enumerate(self.values):
            chosen = ranks[order[bounds[code] : bounds[code + 1]]]
            if chosen.size:
                yield (
                    value,
                    ranking.at(np.sort(np.concatenate([bonafide, chosen])) if bonafide.size else chosen),
                )

    def is_nested_in(self, other: Factor, ranking: Ranking) -> bool:
        """Whether each value of spoofed trials goes with one value of another factor, so that both do not cross."""
        spoofed = ranking.trials[~ranking.is_bonafide]
        codes = self.codes[spoofed]
        pairs = np.bincount(codes * len(other.values) + other.codes[spoofed])
        return np.count_nonzero(pairs) == np.count_nonzero(np.bincount(codes))


def make_factors(joined: JoinedScores, names: Collection[str]) -> list[Factor]:
    """Returns the factors of those columns that the key has."""
    columns, is_bonafide = as_columns(joined.key.fields), joined.is_bonafide
    return [make_factor(name, columns.categories(name), is_bonafide) for name in columns if name in names]


def make_factor(name: str, column: Categories, is_bonafide: NDArray[np.bool_]) -> Factor:
    """Builds a factor from a column of a key.

    Attack and vocoder select spoofed trials only. So does any other column whose values the two classes do
    not share, since nothing else could be compared: a key writes `-` or `bonafide` there for bona fide
    trials.
    """
    values, codes = order_values(column)
    in_bonafide, in_spoof = (
        np.bincount(codes[chosen], minlength=len(values)) > 0 for chosen in (is_bonafide, ~is_bonafide)
    )
    is_spoof_only = name in SPOOF_FIELDS or not (in_bonafide & in_spoof).any()
    is_single = int(np.count_nonzero(in_spoof if is_spoof_only else in_spoof | in_bonafide)) < 2
    return Factor(name, values, codes, is_spoof_only, is_single)


def order_values(column: Categories) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Returns the values that occur in a column, in natural order, and the index of each row's, `(rows,)`."""
    occurs = np.bincount(column.codes, minlength=len(column.values)) > 0
    found = {value for value, is_there in zip(column.values, occurs, strict=True) if is_there}
    values = tuple(sorted(found, key=lambda value: (_natural_order(value), value)))
    places = {value: code for code, value in enumerate(values)}
    return values, np.array([places.get(value, 0) for value in column.values], dtype=np.intp)[column.codes]


def _natural_order(value: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", value)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]
