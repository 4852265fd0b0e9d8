"""The difference of systems on the same trials, and whether it can be told from none.

It is tested by Student's t, with the variance of the difference over clusters and what errors so few that chance may
hide them can add to it, and over trials as well: what is concluded is no surer than either. Sources: as
`sls.metrics.sampling` and `sls.metrics.intervals`.

A recipe of which there are several trainings, by other seeds, is known by their mean, and seeds are drawn as trials
are. What seeds do is their own spread over k trainings, with k - 1 degrees of freedom. It holds what each training
makes of the trials by itself; what all share of the trials is added. Each part has its own quantile, and their
distances are joined by their squares, which errs on the wide side whichever part is the larger (compare Cochran,
"Approximate significance levels of the Behrens-Fisher test", Biometrics 1964). Recipes that were trained by the same
seeds are compared seed by seed: that holds whether or not a seed does the same to both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from sls.metrics.intervals import DEFAULT_LEVEL, Estimate, Interval, correlate
from sls.metrics.sampling import Floats, Sampling

MIN_SEEDS = 4
"""With fewer no verdict is given: nothing tells two or three lucky trainings from a better recipe."""
LEAST_P = 1e-12
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


@dataclass(frozen=True, kw_only=True)
class TestedOverSeeds(Tested):
    """What the sampling of trials and of seeds says of the difference of two recipes."""

    num_seeds: tuple[int, int]
    is_paired: bool
    """Whether seed by seed."""
    seed_share: float | None
    """Of the variance of the difference, what is the seeds', from 0 to 1, and not the trials'; None where it is 0."""


@dataclass(frozen=True, eq=False)
class SeededEstimate:
    """A number of one recipe: the mean of its trainings, which differ by their seed, on the same sampling."""

    of_seeds: tuple[Estimate, ...]
    seeds: tuple[str, ...] = ()
    """Which, in the order of `of_seeds`; empty where they are not known."""

    @property
    def value(self) -> float:
        """The mean."""
        return float(self.values.mean())

    @cached_property
    def values(self) -> Floats:
        """Of each training, shape `(seeds,)`."""
        return np.array([found.value for found in self.of_seeds])

    @cached_property
    def moved(self) -> Floats:
        """How each cluster moves the number of each training, shape `(seeds, clusters)`."""
        return np.stack([found.deviations for found in self.of_seeds])

    @property
    def deviations(self) -> Floats:
        """How each cluster moves the mean."""
        return np.asarray(self.moved.mean(axis=0))

    @property
    def decisions(self) -> Floats:
        """How each cluster moves each rate of each training, whatever the rate weighs."""
        return np.concatenate([rate.deviations for found in self.of_seeds for _, rate in found.terms])

    @property
    def scarcity(self) -> float:
        """Variance that it may have beyond what few errors show, which all trainings may share."""
        return float(np.mean([found.scarcity for found in self.of_seeds]))

    @property
    def sampling(self) -> Sampling:
        """The trials."""
        return self.of_seeds[0].sampling

    @cached_property
    def over_trials(self) -> SeededEstimate | None:
        """As that of an `Estimate`."""
        alone = [found.over_trials for found in self.of_seeds if found.over_trials is not None]
        return SeededEstimate(tuple(alone), self.seeds) if alone else None


class Spread(NamedTuple):
    """The variance of a mean over seeds, as far as it is seen among them."""

    variance: float
    of_trials: float
    """What of it is due to trials: what each training makes of them by itself."""
    freedom: float

    @classmethod
    def of(cls, values: Floats, moved: Floats) -> Spread:
        """Measures it over trainings, two at least: their values, and how each cluster moves them."""
        apart = moved - moved.mean(axis=0)
        times = len(values) * (len(values) - 1)
        return cls(
            float(values.var(ddof=1)) / len(values), float((apart**2).sum()) / times, len(values) - 1.0
        )


def compare_pairs(estimates: Sequence[Estimate | SeededEstimate]) -> list[Tested]:
    """Tests the difference of each pair of systems, first minus second, in the order of `itertools.combinations`.

    Args:
        estimates: One number of each system, or of each recipe, on the same trials and the same sampling.
    """
    shortage = estimates[0].sampling.shortage
    found = []
    for pair in combinations(estimates, 2):
        tested = compare_pair(*pair)
        if lacking := shortage or tested.shortage:
            tested = replace(tested, p_value=None, p_value_holm=None, shortage=lacking)
        found.append(tested)
    return judge_together(found)


def judge_together(found: Sequence[Tested]) -> list[Tested]:
    """Returns differences with p-values that hold for all of them together; those without one do not count."""
    adjusted = iter(adjust_by_holm([tested.p_value for tested in found if tested.p_value is not None]))
    return [
        tested if tested.p_value is None else replace(tested, p_value_holm=next(adjusted)) for tested in found
    ]


def compare_pair(
    first: Estimate | SeededEstimate, second: Estimate | SeededEstimate, level: float = DEFAULT_LEVEL
) -> Tested:
    """Tests one pair; its p-value is 1 - the level from which on the interval holds 0.

    What is found over clusters is no surer than what the same trials say, taken as independent.
    """
    found = _test_pair(first, second, level)
    if first.over_trials is None or second.over_trials is None:
        return found
    alone = compare_pair(first.over_trials, second.over_trials, level)
    wider = max(found, alone, key=lambda tested: tested.interval.high - tested.interval.low)
    p_value = max(tested.p_value or 0.0 for tested in (found, alone))
    interval = found.interval.containing(alone.interval)
    return replace(wider, interval=interval, p_value=p_value, p_value_holm=p_value)


def _test_pair(first: Estimate | SeededEstimate, second: Estimate | SeededEstimate, level: float) -> Tested:
    seeded = [
        item if isinstance(item, SeededEstimate) else SeededEstimate((item,)) for item in (first, second)
    ]
    value = first.value - second.value
    moved = first.deviations - second.deviations
    # What errors too few to be seen would add is shared as far as the systems are alike.
    apart = 1 - correlate(first.deviations, second.deviations)
    if not moved.any() and not np.array_equal(seeded[0].decisions, seeded[1].decisions):
        apart = 1.0  # they differ, if only in a rate that weighs nothing at these thresholds
    unseen = apart * (first.scarcity + second.scarcity)
    sampling = first.sampling
    freedom = min(sampling.freedom)
    if max(len(item.of_seeds) for item in seeded) > 1:
        return _compare_recipes(seeded[0], seeded[1], unseen, level)
    error = math.sqrt(float(moved @ moved) + unseen)
    half = -error * float(special.stdtrit(freedom, (1 - level) / 2))
    p_value = 0.0 if value else 1.0
    if value and error:
        p_value = float(2 * special.stdtr(freedom, -abs(value) / error))
    return Tested(_place(value, half, level, sampling), p_value, p_value)


def _compare_recipes(
    first: SeededEstimate, second: SeededEstimate, unseen: float, level: float
) -> TestedOverSeeds:
    """Tests a pair of which one at least was trained by several seeds."""
    value = first.value - second.value
    moved = first.deviations - second.deviations
    is_paired = bool(first.seeds) and sorted(first.seeds) == sorted(second.seeds)
    spread = _find_spread(first, second, is_paired)
    # What the spread of the seeds holds of the trials is not counted twice.
    of_trials = max(float(moved @ moved) - spread.of_trials, 0.0) + unseen
    parts = ((of_trials, min(first.sampling.freedom)), (spread.variance, spread.freedom))

    def half(tails: float) -> float:
        """Half the interval that leaves out so much, on both sides together."""
        return math.sqrt(sum(part * float(special.stdtrit(free, tails / 2)) ** 2 for part, free in parts))

    p_value = 1.0
    if value:
        is_beyond = half(LEAST_P) <= abs(value)
        p_value = 0.0 if is_beyond else optimize.brentq(lambda tails: half(tails) - abs(value), LEAST_P, 1)
    num_seeds = (len(first.of_seeds), len(second.of_seeds))
    total = of_trials + spread.variance
    fewest = min(num_seeds)
    return TestedOverSeeds(
        _place(value, half(1 - level), level, first.sampling),
        p_value,
        p_value,
        f"not enough seeds ({fewest}) to tell" if fewest < MIN_SEEDS else "",
        num_seeds=num_seeds,
        is_paired=is_paired,
        seed_share=max(spread.variance - spread.of_trials, 0.0) / total if total else None,
    )


def _find_spread(first: SeededEstimate, second: SeededEstimate, is_paired: bool) -> Spread:
    """Returns the spread of the difference, seed by seed or of both; that of an only training is the other's.

    Source of the degrees of freedom: Welch, "The generalization of Student's problem when several different
        population variances are involved", Biometrika 1947.
    """
    several = [item for item in (first, second) if len(item.of_seeds) > 1]
    seen = [(item.values, item.moved) for item in several]
    if is_paired:
        places = [second.seeds.index(seed) for seed in first.seeds]
        seen = [(first.values - second.values[places], first.moved - second.moved[places])]
    times = 1 if len(several) > 1 else len(several[0].of_seeds) + 1
    found = [Spread.of(*item) for item in seen]
    variance = sum(item.variance for item in found)
    squares = sum(item.variance**2 / item.freedom for item in found)
    freedom = variance**2 / squares if squares else min(item.freedom for item in found)
    return Spread(times * variance, times * sum(item.of_trials for item in found), freedom)


def _place(value: float, half: float, level: float, sampling: Sampling) -> Interval:
    low, high = np.clip([value - half, value + half], -1, 1)
    return Interval(float(low), float(high), level, sampling.over, sampling.clusters)


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
