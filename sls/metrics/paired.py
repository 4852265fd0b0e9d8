"""The bootstrap over trials for several systems at once, and for costs: the same draws for all of them.

A trial is one event for every system that scored it, so a difference between systems is resampled by drawing
trials and looking up all of their scores. Only trials near a system's threshold can change its EER or its
least cost: those are drawn one by one, the rest only in bulk, as so many below and so many above, which has
the same distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sls.metrics.bootstrap import DEFAULT_RESAMPLES
from sls.metrics.ranking import Ranking
from sls.metrics.tdcf import LinearCost
from sls.metrics.weighted import Counts, Totals, eer_of_weights, min_cost_of_weights

MARGIN_SD = 8.0
"""Half the width of the zone of single trials, in standard deviations of where the threshold falls."""
MAX_DRAWN = 2_000_000
"""Weights of single trials held at once: 16 MB for each system."""


@dataclass(frozen=True)
class _Zone:
    """Ranks between which a system's threshold falls in every resample."""

    low: int
    high: int


@dataclass(frozen=True)
class _Bulk:
    """Trials of one class that lie on the same side of every system's zone."""

    trials: NDArray[np.intp]
    is_below: NDArray[np.bool_]
    """For each system, shape `(systems,)`."""


@dataclass(frozen=True)
class _Stratum:
    """How one class is drawn."""

    singles: NDArray[np.intp]
    bulks: tuple[_Bulk, ...]
    num_trials: int

    def draw(self, rng: np.random.Generator, num_resamples: int) -> tuple[Counts, Counts]:
        """Returns draws of singles `(resamples, singles)` and of bulks `(resamples, bulks)`."""
        sizes = np.array([self.singles.size, *(bulk.trials.size for bulk in self.bulks)])
        drawn = rng.multinomial(self.num_trials, sizes / self.num_trials, size=num_resamples)
        rows = np.repeat(np.arange(num_resamples), drawn[:, 0])
        columns = rng.integers(max(self.singles.size, 1), size=rows.size)
        cells = np.bincount(rows * self.singles.size + columns, minlength=num_resamples * self.singles.size)
        shape = (num_resamples, self.singles.size)
        return cells.reshape(shape).astype(np.float64), drawn[:, 1:].astype(np.float64)


def resample_trials(
    rankings: Sequence[Ranking],
    rng: np.random.Generator,
    num_resamples: int = DEFAULT_RESAMPLES,
    cost: LinearCost | None = None,
    margin_sd: float = MARGIN_SD,
) -> NDArray[np.float64]:
    """Returns the EER, or the least cost, of resamples over trials, for systems that share the draws.

    Args:
        rankings: One for each system, over the same trials.
        rng: Source of randomness.
        num_resamples: How many.
        cost: Which cost to minimise. None: the EER.
        margin_sd: Half the width of the zone of trials that are drawn one by one. An EER that falls outside
            it is found all the same; a least cost is looked for inside.

    Returns:
        Shape `(resamples, systems)`.
    """
    zones = [_find_zone(ranking, cost, margin_sd) for ranking in rankings]
    strata = _stratify(rankings, zones)
    singles = np.concatenate([stratum.singles for stratum in strata])
    chunk = max(1, MAX_DRAWN // singles.size)  # a zone holds one trial at least
    values = np.empty((num_resamples, len(rankings)))
    for start in range(0, num_resamples, chunk):
        rows = slice(start, min(start + chunk, num_resamples))
        values[rows] = _resample_chunk(rankings, zones, strata, rng, rows.stop - start, cost)
    return values


def _find_zone(ranking: Ranking, cost: LinearCost | None, margin_sd: float) -> _Zone:
    curve = ranking.curve()
    num_bonafide, num_spoof = ranking.num_bonafide, ranking.num_spoof
    if cost is None:
        gap = curve.frr - curve.far
        variance = curve.frr * (1 - curve.frr) / num_bonafide + curve.far * (1 - curve.far) / num_spoof
        inside = np.abs(gap) <= margin_sd * np.sqrt(variance)
        inside[np.argmin(np.abs(gap))] = True
    else:
        costs = cost.c1 * curve.frr + cost.c2 * curve.far
        best = int(np.argmin(costs))
        # The variance of a difference of counts is at most what a Poisson variable of its size has.
        variance = (
            cost.c1**2 * np.abs(curve.frr - curve.frr[best]) / num_bonafide
            + cost.c2**2 * np.abs(curve.far - curve.far[best]) / num_spoof
        )
        inside = costs - costs[best] <= margin_sd * np.sqrt(variance)
    found = np.flatnonzero(inside)
    return _Zone(max(int(found[0]) - 1, 0), min(int(found[-1]) + 1, ranking.is_bonafide.size))


def _stratify(rankings: Sequence[Ranking], zones: Sequence[_Zone]) -> tuple[_Stratum, _Stratum]:
    """Returns how bona fide and spoofed trials are drawn."""
    size = rankings[0].trials.size
    is_below = np.empty((len(rankings), size), dtype=bool)
    is_single = np.zeros(size, dtype=bool)
    for system, (ranking, zone) in enumerate(zip(rankings, zones, strict=True)):
        is_below[system, ranking.trials] = np.arange(size) < zone.low
        is_single[ranking.trials[zone.low : zone.high]] = True
    is_bonafide = np.empty(size, dtype=bool)
    is_bonafide[rankings[0].trials] = rankings[0].is_bonafide
    bonafide, spoof = (_stratum(chosen, is_single, is_below) for chosen in (is_bonafide, ~is_bonafide))
    return bonafide, spoof


def _stratum(
    chosen: NDArray[np.bool_], is_single: NDArray[np.bool_], is_below: NDArray[np.bool_]
) -> _Stratum:
    rest = np.flatnonzero(chosen & ~is_single)
    sides, members = np.unique(is_below[:, rest], axis=1, return_inverse=True)
    bulks = tuple(_Bulk(rest[members.ravel() == index], sides[:, index]) for index in range(sides.shape[1]))
    return _Stratum(np.flatnonzero(chosen & is_single), bulks, int(np.count_nonzero(chosen)))


def _resample_chunk(
    rankings: Sequence[Ranking],
    zones: Sequence[_Zone],
    strata: tuple[_Stratum, _Stratum],
    rng: np.random.Generator,
    num_resamples: int,
    cost: LinearCost | None,
) -> NDArray[np.float64]:
    drawn = [stratum.draw(rng, num_resamples) for stratum in strata]
    singles = np.concatenate([stratum.singles for stratum in strata])
    columns = np.full(rankings[0].trials.size, -1)
    columns[singles] = np.arange(singles.size)
    weights = np.concatenate([single for single, _ in drawn], axis=1)
    values = np.empty((num_resamples, len(rankings)))
    escaped: dict[int, list[int]] = {}
    for system, (ranking, zone) in enumerate(zip(rankings, zones, strict=True)):
        totals = _sum_below(system, columns[ranking.trials[: zone.low]], weights, strata, drawn)
        within = weights[:, columns[ranking.trials[zone.low : zone.high]]]
        is_bonafide = ranking.is_bonafide[zone.low : zone.high]
        if cost is not None:
            values[:, system] = min_cost_of_weights(within, is_bonafide, totals, cost)
            continue
        values[:, system] = eer_of_weights(within, is_bonafide, totals)
        for row in _find_escaped(within, is_bonafide, totals):
            escaped.setdefault(int(row), []).append(system)
    for row, systems in escaped.items():
        full = _expand(row, rankings[0].trials.size, strata, drawn, rng)
        for system in systems:
            values[row, system] = _eer_of_all(full, rankings[system], strata)
    return values


def _sum_below(
    system: int,
    columns_below: NDArray[np.intp],
    weights: Counts,
    strata: tuple[_Stratum, _Stratum],
    drawn: Sequence[tuple[Counts, Counts]],
) -> Totals:
    """Returns what is drawn below a system's zone: in bulk, and of single trials in other systems' zones."""
    columns_below = columns_below[columns_below >= 0]
    is_bonafide = columns_below < strata[0].singles.size
    in_bulk = [
        bulk @ np.array([part.is_below[system] for part in stratum.bulks], dtype=np.float64)
        for stratum, (_, bulk) in zip(strata, drawn, strict=True)
    ]
    num_resamples = weights.shape[0]
    return Totals(
        bonafide=np.full(num_resamples, float(strata[0].num_trials)),
        spoof=np.full(num_resamples, float(strata[1].num_trials)),
        bonafide_below=in_bulk[0] + weights[:, columns_below[is_bonafide]].sum(axis=1),
        spoof_below=in_bulk[1] + weights[:, columns_below[~is_bonafide]].sum(axis=1),
    )


def _find_escaped(weights: Counts, is_bonafide: NDArray[np.bool_], totals: Totals) -> NDArray[np.intp]:
    """Returns the resamples whose FRR and FAR do not cross within the columns."""
    start = totals.bonafide_below / totals.bonafide + totals.spoof_below / totals.spoof - 1
    end = start + weights[:, is_bonafide].sum(axis=1) / totals.bonafide
    end += weights[:, ~is_bonafide].sum(axis=1) / totals.spoof
    return np.flatnonzero((start >= 0) | (end < -1e-12))


def _expand(
    row: int,
    num_trials: int,
    strata: tuple[_Stratum, _Stratum],
    drawn: Sequence[tuple[Counts, Counts]],
    rng: np.random.Generator,
) -> Counts:
    """Returns the draws of every trial in one resample, shape `(trials,)`; bulks are drawn one by one."""
    full = np.zeros(num_trials)
    for stratum, (single, bulk) in zip(strata, drawn, strict=True):
        full[stratum.singles] = single[row]
        for part, count in zip(stratum.bulks, bulk[row], strict=True):
            chosen = rng.integers(part.trials.size, size=int(count))
            full[part.trials] = np.bincount(chosen, minlength=part.trials.size)
    return full


def _eer_of_all(full: Counts, ranking: Ranking, strata: tuple[_Stratum, _Stratum]) -> float:
    nothing = np.zeros(1)
    totals = Totals(
        np.array([float(strata[0].num_trials)]), np.array([float(strata[1].num_trials)]), nothing, nothing
    )
    return float(eer_of_weights(full[ranking.trials][None], ranking.is_bonafide, totals)[0])
