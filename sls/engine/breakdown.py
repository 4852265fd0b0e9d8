"""Results by attack, codec, speaker and whatever else a key knows."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from sls.engine.factors import ATTACK, SPEAKER, Factor, local_clusters, name_clusters
from sls.engine.results import POOLED, Breakdown, Cell
from sls.engine.tandem import Tandem
from sls.metrics.bootstrap import (
    MIN_USABLE_SHARE,
    Interval,
    least_resamples,
    percentile_interval,
    resample_eer,
)
from sls.metrics.clusters import resample_clusters
from sls.metrics.det import eer_of_curve
from sls.metrics.ranking import Ranking
from sls.metrics.tdcf import minimum_of_curve

MAX_THREADS = 4
MAX_CROSSED_CELLS = 3_000
"""A table of more cells than this is no table any more."""


@dataclass(frozen=True)
class BootstrapSettings:
    """How intervals are drawn."""

    num_resamples: int = 1_000
    """0 leaves intervals out."""
    level: float = 0.95
    seed: int = 1234

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.level < 1:
            raise ValueError(f"level: found {self.level:g}, expected a share between 0 and 1, such as 0.95")
        least = least_resamples(self.level)
        if self.num_resamples and self.num_resamples < least:
            raise ValueError(
                f"num_resamples: found {self.num_resamples}, expected 0 for no intervals, or at least {least} "
                f"for those of {100 * self.level:g} %"
            )
        if self.seed < 0:
            raise ValueError(f"seed: found {self.seed}, expected 0 or more")

    def enough_for(self, num_comparisons: int) -> BootstrapSettings:
        """Returns settings whose resamples can tell systems apart among so many pairs; these if they can.

        Resamples that lack a class are allowed for.
        """
        least = math.ceil(least_resamples(self.level, num_comparisons) / MIN_USABLE_SHARE)
        return replace(self, num_resamples=least) if 0 < self.num_resamples < least else self

    def generator(self, *stream: str) -> np.random.Generator:
        """Returns the generator of one named piece of work: no other piece shifts its draws."""
        return np.random.default_rng([self.seed, zlib.crc32("/".join(stream).encode())])


@dataclass(frozen=True)
class BreakdownSource:
    """What every cell is computed from."""

    ranking: Ranking
    factors: Sequence[Factor]
    tandem: Tandem | None
    settings: BootstrapSettings

    def find(self, name: str) -> Factor | None:
        """Returns a factor by its name."""
        return next((factor for factor in self.factors if factor.name == name), None)


@dataclass(frozen=True)
class _Condition:
    """The trials of one cell."""

    values: tuple[str, ...]
    ranking: Ranking
    tandem: Tandem | None


def break_down(source: BreakdownSource, fields: Sequence[str]) -> tuple[Breakdown, ...]:
    """Returns one breakdown for each field, with intervals, and one for each pair that can cross, without.

    A field of spoofed trials (attack, vocoder) crosses one of both classes (codec, compression); speakers
    cross nothing, since few trials would be left.
    """
    named = (source.find(name) for name in dict.fromkeys(fields))
    factors = [factor for factor in named if factor is not None]
    crossed = [
        (spoofed, shared)
        for spoofed in factors
        for shared in factors
        if spoofed.is_spoof_only and not shared.is_spoof_only and shared.name != SPEAKER
        if len(spoofed.values) * len(shared.values) <= MAX_CROSSED_CELLS
        if not spoofed.is_nested_in(shared, source.ranking)
    ]
    # NumPy lets go of the interpreter while it computes; each cell has its own stream of random numbers.
    with ThreadPoolExecutor(count_threads()) as pool:
        single = [(factor, _map_cells(pool, source, factor)) for factor in factors]
        double = [pool.submit(_break_down_by_two, source, *pair) for pair in crossed]
        found = [Breakdown((factor.name,), (factor.is_spoof_only,), tuple(cells)) for factor, cells in single]
        return (*found, *(table.result() for table in double))


def count_threads() -> int:
    """Returns how many threads share the work of an evaluation."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def _map_cells(pool: ThreadPoolExecutor, source: BreakdownSource, factor: Factor) -> Iterator[Cell]:
    """Starts to measure each value of a factor; the cells come in the order of the values."""

    def measure(condition: _Condition) -> Cell:
        return _measure(condition, _draw_intervals(source, factor, condition))

    return pool.map(measure, _split(_Condition((), source.ranking, source.tandem), factor))


def _break_down_by_two(source: BreakdownSource, spoofed: Factor, shared: Factor) -> Breakdown:
    everything = _Condition((), source.ranking, source.tandem)
    columns = [*_split(everything, shared), _Condition((POOLED,), source.ranking, source.tandem)]
    cells = []
    for column in columns:
        for cell in [*_split(column, spoofed), _Condition((POOLED,), column.ranking, column.tandem)]:
            measured = _measure(_Condition((cell.values[-1], column.values[0]), cell.ranking, cell.tandem))
            cells.append(measured)
    order = {value: place for place, value in enumerate((*spoofed.values, POOLED))}
    cells.sort(key=lambda cell: order[cell.values[0]])
    return Breakdown((spoofed.name, shared.name), (True, False), tuple(cells))


def _split(condition: _Condition, factor: Factor) -> Iterator[_Condition]:
    for value, ranking in factor.split(condition.ranking):
        tandem = condition.tandem
        if tandem is not None:
            tandem = tandem.select(factor.name, value, factor.is_spoof_only)
        yield _Condition((value,), ranking, tandem)


def _measure(condition: _Condition, intervals: tuple[Interval, ...] = ()) -> Cell:
    ranking = condition.ranking
    counts = (ranking.num_bonafide, ranking.num_spoof)
    note = _explain_missing(ranking)
    if note:
        return Cell(condition.values, *counts, eer=None, note=note)
    curve = ranking.curve()
    min_tdcf = None
    if condition.tandem is not None:
        try:
            min_tdcf = minimum_of_curve(curve, condition.tandem.linear_cost()).cost
        except ValueError as error:
            note = str(error)
    return Cell(condition.values, *counts, eer_of_curve(curve).eer, min_tdcf, intervals, note)


def _explain_missing(ranking: Ranking) -> str:
    """Returns why there is no EER; empty where there is one."""
    if not ranking.num_bonafide:
        return "no bona fide trial"
    if not ranking.num_spoof:
        return "no spoofed trial"
    return "all scores are the same" if ranking.scores[0] == ranking.scores[-1] else ""


def _draw_intervals(source: BreakdownSource, factor: Factor, condition: _Condition) -> tuple[Interval, ...]:
    settings = source.settings
    if not settings.num_resamples or _explain_missing(condition.ranking):
        return ()
    stream = (factor.name, *condition.values)
    drawn = resample_eer(condition.ranking, settings.generator("trials", *stream), settings.num_resamples)
    found = [percentile_interval(drawn, "trials", settings.level)]
    # A speaker's own cell is one cluster: over it nothing can be drawn.
    if factor.name != SPEAKER:
        found.append(_draw_clustered(source, condition, stream))
    return tuple(interval for interval in found if interval is not None)


def _draw_clustered(
    source: BreakdownSource, condition: _Condition, stream: tuple[str, ...]
) -> Interval | None:
    local = local_clusters(condition.ranking, source.find(SPEAKER), source.find(ATTACK))
    if local is None:
        return None
    ranking, clusters = local
    settings = source.settings
    rng = settings.generator("clusters", *stream)
    drawn = resample_clusters([ranking], clusters, rng, settings.num_resamples)[:, 0]
    return percentile_interval(drawn, name_clusters(clusters), settings.level)
