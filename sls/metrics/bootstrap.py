"""Confidence intervals by the bootstrap.

Two kinds of resampling are offered, and an `Interval` says which one it rests on:

- over **trials** (`resample_eer` here, `sls.metrics.paired` for costs and for several systems at once): bona
  fide and spoofed trials are drawn with replacement, each class keeping its size, since the maker of a corpus
  chose the sizes and both error rates are conditional on the class. It answers "what if other trials of these
  very speakers and attacks had been recorded", and is too narrow where trials resemble each other;
- over **speakers and attacks** (`sls.metrics.clusters`), which is honest where trials are not independent:
  Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems - the subsets bootstrap", CVIU
  2004.

Intervals are percentile intervals (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter
13) between order statistics (Davison and Hinkley, "Bootstrap methods and their application", 1997, eq. 5.8), so
that an interval leaves out 0 exactly where the p-value of the same resamples is at most 1 - level.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sls.metrics.ranking import Ranking
from sls.metrics.weighted import Totals, eer_at_crossing

DEFAULT_RESAMPLES = 1_000
DEFAULT_LEVEL = 0.95
MIN_USABLE_SHARE = 0.9
"""Share of resamples that must hold both classes for an interval to be given."""

_ROUNDING = 1e-9

BRACKET_SD = 4.0
"""How far from the EER, in standard deviations of FRR - FAR, resampling makes its first two cuts."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval and what it rests on."""

    low: float
    high: float
    level: float
    """Such as 0.95."""
    over: str
    """What was drawn: `trials`, `speakers`, or `speakers and attacks`."""
    num_resamples: int
    """Resamples that held both classes."""


def percentile_interval(
    values: NDArray[np.float64], over: str, level: float = DEFAULT_LEVEL
) -> Interval | None:
    """Returns the percentile interval of resampled values, or None where too few of them are numbers.

    Args:
        values: One value for each resample, NaN where a class was not drawn at all, shape `(resamples,)`.
        over: What was drawn.
        level: Share of the resamples between both ends.
    """
    usable = np.sort(values[~np.isnan(values)])
    outside = math.floor((usable.size + 1) * (1 - level) / 2 + _ROUNDING)
    if not outside or usable.size < MIN_USABLE_SHARE * values.size:
        return None
    return Interval(float(usable[outside - 1]), float(usable[-outside]), level, over, int(usable.size))


def least_resamples(level: float = DEFAULT_LEVEL, num_comparisons: int = 1) -> int:
    """Returns how many resamples are needed at least: with fewer, nothing is rare enough for the level.

    The smallest p-value of n resamples is 2 / (n + 1), and Holm's method multiplies the smallest of several
    by their number.

    Args:
        level: Of the interval, such as 0.95.
        num_comparisons: P-values that `adjust_by_holm` adjusts together.
    """
    return math.ceil(2 * num_comparisons / (1 - level) - _ROUNDING) - 1


def two_sided_p_value(differences: NDArray[np.float64]) -> float:
    """Returns the bootstrap's p-value of "there is no difference".

    Twice the smaller share of resamples on either side of zero, counting the sample itself (Davison and
    Hinkley, "Bootstrap methods and their application", 1997, eq. 4.11), so that it is never 0.

    Args:
        differences: Resampled differences, shape `(resamples,)`; NaN ones are left out.
    """
    usable = differences[~np.isnan(differences)]
    rarer = min(np.count_nonzero(usable <= 0), np.count_nonzero(usable >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (usable.size + 1)))


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values that hold for all comparisons together.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def resample_eer(
    ranking: Ranking, rng: np.random.Generator, num_resamples: int = DEFAULT_RESAMPLES
) -> NDArray[np.float64]:
    """Returns the EER of resamples over trials, exactly as if each were drawn and sorted.

    A resample's counts are multinomial, so they can be drawn from the coarse to the fine: how many of the
    draws fall into the lower half of the ranks is binomial, then the same within the half in which FRR and
    FAR cross, and so on down to one trial. The first two cuts are those between which they nearly always do.
    Some 15 pairs of binomial draws take the place of half a million, with the same distribution.

    Args:
        ranking: The trials.
        rng: Source of randomness.
        num_resamples: How many.

    Returns:
        Fractions, shape `(resamples,)`.
    """
    below = ranking.bonafide_below
    size = ranking.is_bonafide.size
    num_bonafide, num_spoof = ranking.num_bonafide, ranking.num_spoof
    low, high = np.zeros(num_resamples, dtype=np.int64), np.full(num_resamples, size)
    bonafide_below, spoof_below = np.zeros((2, num_resamples), dtype=np.int64)
    bonafide_within, spoof_within = np.full(num_resamples, num_bonafide), np.full(num_resamples, num_spoof)
    cuts = _bracket_crossing(below, num_bonafide, num_spoof)
    while (high - low).max() > 1:
        middle = (low + high) // 2
        if cuts:
            cut = cuts.pop()
            middle = np.where((low < cut) & (cut < high), cut, middle)
        trials, lower = below[high] - below[low], below[middle] - below[low]
        spoofs, lower_spoofs = high - low - trials, middle - low - lower
        bonafide_drawn = rng.binomial(bonafide_within, lower / np.maximum(trials, 1))
        spoof_drawn = rng.binomial(spoof_within, lower_spoofs / np.maximum(spoofs, 1))
        rejected_bonafide, rejected_spoof = bonafide_below + bonafide_drawn, spoof_below + spoof_drawn
        is_above = rejected_bonafide * num_spoof + rejected_spoof * num_bonafide < num_bonafide * num_spoof
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
        bonafide_below = np.where(is_above, rejected_bonafide, bonafide_below)
        spoof_below = np.where(is_above, rejected_spoof, spoof_below)
        bonafide_within = np.where(is_above, bonafide_within - bonafide_drawn, bonafide_drawn)
        spoof_within = np.where(is_above, spoof_within - spoof_drawn, spoof_drawn)
    before = Totals(
        bonafide=np.full(num_resamples, float(num_bonafide)),
        spoof=np.full(num_resamples, float(num_spoof)),
        bonafide_below=bonafide_below.astype(np.float64),
        spoof_below=spoof_below.astype(np.float64),
    )
    return eer_at_crossing(ranking.is_bonafide[low], before)


def _bracket_crossing(below: NDArray[np.int64], num_bonafide: int, num_spoof: int) -> list[int]:
    """Returns the ranks around those at which FRR and FAR cross in nearly every resample."""

    def gap(rank: int) -> float:
        return float(below[rank]) / num_bonafide + float(rank - below[rank]) / num_spoof - 1

    ranks = range(below.size)
    eer = below[bisect_left(ranks, 0.0, key=gap)] / num_bonafide
    margin = BRACKET_SD * np.sqrt(eer * (1 - eer) * (1 / num_bonafide + 1 / num_spoof))
    return [bisect_left(ranks, end, key=gap) for end in (margin, -margin)]
