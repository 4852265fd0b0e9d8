"""The difference of two systems on the same trials, and whether it can be told from none.

It is tested by Student's t, with the variance of the difference over clusters and what errors so few that chance may
hide them can add to it. Sources: as `sls.metrics.sampling` and `sls.metrics.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from sls.metrics.intervals import DEFAULT_LEVEL, Estimate, Interval, correlate


@dataclass(frozen=True, eq=False)
class PairedDifference:
    """The difference of two systems, first minus second, on the same trials and the same sampling."""

    first: Estimate
    second: Estimate

    @property
    def value(self) -> float:
        """First minus second."""
        return self.first.value - self.second.value

    def interval(self, level: float = DEFAULT_LEVEL) -> Interval:
        """Returns the confidence interval."""
        half = -self._standard_error * float(special.stdtrit(self._freedom, (1 - level) / 2))
        low, high = np.clip([self.value - half, self.value + half], -1, 1)
        sampling = self.first.sampling
        return Interval(float(low), float(high), level, sampling.over, sampling.clusters)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of "there is no difference": 1 - the level from which on the interval holds 0."""
        if not self.value:
            return 1.0
        if not self._standard_error:
            return 0.0
        return float(2 * special.stdtr(self._freedom, -abs(self.value) / self._standard_error))

    @cached_property
    def _standard_error(self) -> float:
        moved = self.first.deviations - self.second.deviations
        # What errors too few to be seen would add is shared as far as the systems are alike.
        apart = 1 - correlate(self.first.deviations, self.second.deviations)
        return math.sqrt(float(moved @ moved) + apart * (self.first.scarcity + self.second.scarcity))

    @property
    def _freedom(self) -> float:
        return min(self.first.sampling.freedom)


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
