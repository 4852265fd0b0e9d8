"""Confidence intervals of error rates and of least costs, and of their differences.

A rate is taken as that of so many independent trials as have its variance, and its ends are those of an exact
binomial interval of that many, with a t quantile for the number of clusters: Korn and Graubard, "Confidence
intervals for proportions with small expected number of positive counts estimated from survey data", Survey
Methodology 1998. So an EER of no error at all has a width too.

- The **EER** moves with FRR and FAR as their slopes at its threshold weigh them: (FAR' FRR + FRR' FAR) / (FAR' +
  FRR'), slopes over the stretch in which the crossing may fall. It is taken as one rate, and as the sum of two, of
  which that of a class of few trials has the wider interval; its own goes as far as either.
- A **least cost** is that of its own threshold, held; the distances of its two rates are joined as by Zou and Donner,
  "Construction of confidence limits about effect measures", Statistics in Medicine 2008. A least value is found too
  low: the upper end is raised by a third of what thresholds from one half of the trials cost more on the other half.
  (The minimum of a Brownian motion with a square drift lies M below the truth, the cost at its place M / 3 above;
  with half of the trials M grows by 2**(2/3): together 1.5 M, and 3 M where the curve is smooth.)

Over clusters an interval goes at least as far as that over trials (`sls.metrics.sampling` says why).
`benchmarks/coverage.py` measures by simulation how often all of them hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sls.metrics.eer import DetCurve, Ranking, eer_of_curve, find_crossing
from sls.metrics.sampling import BONAFIDE, SPOOF, Floats, Sampling
from sls.metrics.tdcf import LinearCost

DEFAULT_LEVEL = 0.95
STRETCH_SD = 2.0
"""Half the stretch over which slopes are taken at the EER, in standard deviations of FRR - FAR."""
MIN_HALVINGS, MAX_HALVED = 10, 30_000
"""Trials are halved so often at least, and until so many were halved."""
OPTIMISM_SHARE = 1 / 3
SCARCITY_TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """A confidence interval and what it rests on."""

    low: float
    high: float
    level: float
    """Such as 0.95."""
    over: str
    """What would be drawn, were the corpus collected anew: `trials`, or such as `48 speakers and 13 attacks`."""
    clusters: Mapping[str, int] = field(default_factory=dict)
    """Number of clusters by name; empty over trials."""

    @property
    def is_clustered(self) -> bool:
        """Whether it rests on speakers or attacks, and not on trials taken as independent."""
        return bool(self.clusters)

    def containing(self, other: Interval) -> Interval:
        """Returns the interval that goes as far as either, and rests on what this one does."""
        return replace(self, low=min(self.low, other.low), high=max(self.high, other.high))


@dataclass(frozen=True, eq=False)
class Rate:
    """An error rate and how it varies."""

    value: float
    deviations: Floats
    num_trials: int
    fewest: int
    """Clusters that it rests on at least."""
    freedom: float

    @cached_property
    def equal_to(self) -> float:
        """How many independent trials have this variance."""
        variance = float(self.deviations @ self.deviations)
        if 0 < self.value < 1 and variance > 0:
            return min(self.num_trials, self.value * (1 - self.value) / variance)
        # Without an error nothing tells how alike trials are: between as many as there are, and one a cluster.
        return math.sqrt(self.num_trials * self.fewest)

    def distances(self, level: float) -> tuple[float, float]:
        """Returns how far below and above the rate the ends of its interval lie."""
        tail = (1 - level) / 2
        narrowing = special.ndtri(tail) / special.stdtrit(self.freedom, tail)
        return _binomial_distances(self.value, self.equal_to * float(narrowing) ** 2, tail)

    @cached_property
    def scarcity(self) -> float:
        """Variance that it may have beyond what its few errors show: of the exact interval, less p (1 - p) / n."""
        size = self.num_trials if 0 < self.value < 1 else self.equal_to
        half = sum(_binomial_distances(self.value, size, SCARCITY_TAIL)) / 2
        variance = (half / special.ndtri(SCARCITY_TAIL)) ** 2
        return max(float(variance) - self.value * (1 - self.value) / size, 0.0)


def _binomial_distances(rate: float, size: float, tail: float) -> tuple[float, float]:
    """Returns how far from a rate of `size` independent trials the ends of its interval lie (Clopper and Pearson)."""
    errors, rest = rate * size, (1 - rate) * size
    low = special.betaincinv(errors, rest + 1, tail) if rate > 0 else 0.0
    high = special.betaincinv(errors + 1, rest, 1 - tail) if rate < 1 else 1.0
    return max(rate - float(low), 0.0), max(float(high) - rate, 0.0)


def correlate(one: Floats, other: Floats) -> float:
    """Returns the correlation of two numbers, given how each cluster moves them; 0 where one does not move."""
    size = math.sqrt(float((one @ one) * (other @ other)))
    if not size:
        return 0.0
    return 1.0 if np.array_equal(one, other) else float(np.clip(one @ other / size, -1, 1))


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number that is a weighted sum of rates, and how it varies."""

    value: float
    terms: tuple[tuple[float, Rate], ...]
    """Weights and rates."""
    sampling: Sampling
    whole: Rate | None = None
    """The number as one rate, where it is one: an interval of both forms goes as far as either."""
    by_asv: Floats | float = 0.0
    """How each cluster moves the number by the ASV's acceptance of its attacks."""
    optimism: float = 0.0
    """How much too low the value is expected to be."""
    limits: tuple[float, float] = (0.0, 1.0)
    over_trials: Estimate | None = None
    """The same number where the sampling is of clusters, with its trials taken as independent."""

    @property
    def kinds(self) -> tuple[Estimate, ...]:
        """Itself; over clusters that over trials before it."""
        return (self,) if self.over_trials is None else (self.over_trials, self)

    @cached_property
    def deviations(self) -> Floats:
        """How each cluster moves the number."""
        return self._of_rates + self.by_asv

    @cached_property
    def _of_rates(self) -> Floats:
        return np.sum([weight * rate.deviations for weight, rate in self.terms], axis=0)

    @property
    def scarcity(self) -> float:
        """Variance that its rates may have beyond what their few errors show."""
        return sum(weight**2 * rate.scarcity for weight, rate in self.terms)

    def interval(self, level: float = DEFAULT_LEVEL) -> Interval:
        """Returns the confidence interval."""
        below, above = self.distances(level)
        low, high = self.value - below, self.value + above + self.optimism
        ends = np.clip([low, high], *self.limits)
        found = Interval(float(ends[0]), float(ends[1]), level, self.sampling.over, self.sampling.clusters)
        return found if self.over_trials is None else found.containing(self.over_trials.interval(level))

    def distances(self, level: float) -> tuple[float, float]:
        """Returns how far below and above the number the ends lie, its optimism aside."""
        found = np.array([np.multiply(weight, rate.distances(level)) for weight, rate in self.terms])
        moved = [rate.deviations for _, rate in self.terms]
        alike = np.eye(len(moved))
        for one, other in combinations(range(len(moved)), 2):
            alike[one, other] = alike[other, one] = correlate(moved[one], moved[other])
        joined = np.einsum("ik,ij,jk->k", found, alike, found)
        added = float(self.deviations @ self.deviations - self._of_rates @ self._of_rates)
        quantile = special.stdtrit(self.sampling.freedom[SPOOF], (1 - level) / 2)
        ends = np.sqrt(np.maximum(joined, 0) + quantile**2 * max(added, 0.0))
        below, above = np.maximum(ends, self.whole.distances(level)) if self.whole is not None else ends
        return float(below), float(above)


def estimate_eer(ranking: Ranking, sampling: Sampling) -> Estimate:
    """Returns the EER by the challenges' rule, and how it varies.

    Args:
        ranking: The trials.
        sampling: Their clusters, each class in the order of its ranks.
    """
    curve = ranking.curve()
    eer, index = eer_of_curve(curve).eer, find_crossing(curve)
    frr, far = _rates_at(ranking, curve, index, sampling)
    gap = frr.deviations - far.deviations
    spread = math.sqrt(float(gap @ gap) + frr.scarcity + far.scarcity)
    weight = _weigh_frr(curve, index, spread)
    whole = Rate(
        eer,
        weight * frr.deviations + (1 - weight) * far.deviations,
        # Without an error the smaller class says how many could have been seen.
        ranking.scores.size if eer > 0 else min(ranking.num_bonafide, ranking.num_spoof),
        min(sampling.fewest),
        min(sampling.freedom),
    )
    alone = None if sampling.trials is None else estimate_eer(ranking, sampling.trials)
    return Estimate(eer, ((weight, frr), (1 - weight, far)), sampling, whole, over_trials=alone)


def estimate_min_cost(ranking: Ranking, cost: LinearCost, sampling: Sampling, optimism: float) -> Estimate:
    """Returns the least cost over all thresholds, and how it varies at its own threshold.

    Args as `estimate_eer`; `optimism`, how much too low the least cost is expected to be, is what `find_optimism`
    finds.
    """
    curve = ranking.curve()
    costs = cost.of_rates(curve.frr, curve.far)
    index = int(np.argmin(costs))
    frr, far = _rates_at(ranking, curve, index, sampling)
    terms = ((cost.c1 / cost.normaliser, frr), (cost.c2 / cost.normaliser, far))
    limits = (cost.c0 / cost.normaliser, 1.0)
    alone = None if sampling.trials is None else estimate_min_cost(ranking, cost, sampling.trials, optimism)
    return Estimate(float(costs[index]), terms, sampling, optimism=optimism, limits=limits, over_trials=alone)


def find_optimism(ranking: Ranking, cost: LinearCost, rng: np.random.Generator) -> float:
    """Returns how much too low the least cost is expected to be, because its threshold suits these very trials.

    The generator halves the trials, more often where there are few.
    """
    excess = []
    for _ in range(max(MIN_HALVINGS, MAX_HALVED // ranking.scores.size)):
        half = rng.random(ranking.scores.size) < 0.5
        one, other = (_costs_of(ranking, cost, chosen) for chosen in (half, ~half))
        excess += [other[np.argmin(one)], one[np.argmin(other)]]
    curve = ranking.curve()
    least = float(cost.of_rates(curve.frr, curve.far).min())
    return OPTIMISM_SHARE * max(float(np.mean(excess)) - least, 0.0)


def _costs_of(ranking: Ranking, cost: LinearCost, chosen: NDArray[np.bool_]) -> Floats:
    """Returns the cost of some of the trials at every threshold, shape `(trials + 1,)`."""
    rejected = [
        np.concatenate([[0], np.cumsum(chosen & of_class)])
        for of_class in (ranking.is_bonafide, ~ranking.is_bonafide)
    ]
    frr, rejected_spoof = (counts / max(counts[-1], 1) for counts in rejected)
    return cost.of_rates(frr, 1 - rejected_spoof)


def _rates_at(ranking: Ranking, curve: DetCurve, num_rejected: int, sampling: Sampling) -> tuple[Rate, Rate]:
    """Returns FRR and FAR where so many trials, from the lowest score on, are rejected.

    Of trials that tie with the last rejected one each counts as rejected by the share of its class that is.
    """
    rejected = np.zeros(ranking.scores.size)
    rejected[:num_rejected] = 1
    if num_rejected:
        last = curve.thresholds[num_rejected]
        tied = slice(*(int(np.searchsorted(ranking.scores, last, side=side)) for side in ("left", "right")))
        for of_class in (ranking.is_bonafide[tied], ~ranking.is_bonafide[tied]):
            if of_class.any():
                rejected[tied][of_class] = rejected[tied][of_class].mean()
    errors = (rejected[ranking.is_bonafide], 1 - rejected[~ranking.is_bonafide])
    return make_rates(errors, (float(curve.frr[num_rejected]), float(curve.far[num_rejected])), sampling)


def make_rates(
    errors: tuple[Floats, Floats], values: tuple[float, float], sampling: Sampling
) -> tuple[Rate, Rate]:
    """Returns both error rates and how they vary.

    An error is 1 where a trial of the class is decided wrongly, in the order of the codes; the values are both rates.
    """
    frr, far = (
        Rate(
            values[side],
            sampling.deviations(side, errors[side]),
            errors[side].size,
            sampling.fewest[side],
            sampling.freedom[side],
        )
        for side in (BONAFIDE, SPOOF)
    )
    return frr, far


def _weigh_frr(curve: DetCurve, index: int, spread: float) -> float:
    """Returns how much of a change of FRR the EER follows: FAR' / (FAR' + FRR'), by slopes around its threshold."""
    gap = curve.frr - curve.far
    low = int(np.searchsorted(gap, -STRETCH_SD * spread, side="left")) - 1
    high = int(np.searchsorted(gap, STRETCH_SD * spread, side="right"))
    low, high = max(min(low, index - 1), 0), min(max(high, index + 1), gap.size - 1)
    rise, fall = curve.frr[high] - curve.frr[low], curve.far[low] - curve.far[high]
    return float(fall / (rise + fall))
