"""The difference of systems on the same trials, and whether it can be told from none.

It is tested by Student's t, with the variance of the difference over clusters and what errors so few that chance may
hide them can add to it. Sources: as `sls.metrics.sampling` and `sls.metrics.intervals`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import special

from sls.metrics.intervals import DEFAULT_LEVEL, Estimate, Interval, correlate

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Tested:
    """What one kind of sampling says of a difference."""

    interval: Interval
    """Of the difference, first minus second."""
    p_value: float | None
    """Two-sided, of "there is no difference"; None where too few clusters are known for a verdict."""
    p_value_holm: float | None
    """The same, adjusted by Holm's method for the number of pairs that are compared."""
    shortage: str = ""
    """Why there is no verdict, such as `not enough speakers (2) to tell`."""

    @property
    def conclusion(self) -> str:
        """Whether the data can tell the two apart, alone and, where several pairs are compared, among all."""
        if self.p_value is None or self.p_value_holm is None:
            return self.shortage
        allowed = 1 - self.interval.level + _ROUNDING
        if self.p_value > allowed:
            return "not distinguishable"
        if self.p_value_holm > allowed:
            return "distinguishable as a pair alone, not among all pairs"
        return "distinguishable"


def compare_pairs(estimates: Sequence[Estimate]) -> list[Tested]:
    """Tests each pair of systems, first minus second, in the order of `itertools.combinations`.

    Args:
        estimates: One number of each system, on the same trials and the same sampling.
    """
    found = [compare_pair(*pair) for pair in combinations(estimates, 2)]
    shortage = estimates[0].sampling.shortage
    if shortage:
        return [Tested(tested.interval, None, None, shortage) for tested in found]
    adjusted = adjust_by_holm([p_value for tested in found if (p_value := tested.p_value) is not None])
    return [replace(tested, p_value_holm=p_value) for tested, p_value in zip(found, adjusted, strict=True)]


def compare_pair(first: Estimate, second: Estimate, level: float = DEFAULT_LEVEL) -> Tested:
    """Tests one pair; its p-value is 1 - the level from which on the interval holds 0."""
    value = first.value - second.value
    moved = first.deviations - second.deviations
    # What errors too few to be seen would add is shared as far as the systems are alike.
    apart = 1 - correlate(first.deviations, second.deviations)
    error = math.sqrt(float(moved @ moved) + apart * (first.scarcity + second.scarcity))
    sampling = first.sampling
    freedom = min(sampling.freedom)
    half = -error * float(special.stdtrit(freedom, (1 - level) / 2))
    low, high = np.clip([value - half, value + half], -1, 1)
    p_value = 0.0 if value else 1.0
    if value and error:
        p_value = float(2 * special.stdtr(freedom, -abs(value) / error))
    interval = Interval(float(low), float(high), level, sampling.over, sampling.clusters)
    return Tested(interval, p_value, p_value)


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values that hold for all comparisons together.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    times = len(order) - np.arange(len(order))
    adjusted[order] = np.maximum.accumulate(np.minimum(times * np.asarray(p_values)[order], 1))
    return adjusted.tolist()
