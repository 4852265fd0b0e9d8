"""Results by attack, codec, speaker and whatever else a key knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sls.engine.evaluation.groups import ATTACK, SPEAKER, Factor, sample
from sls.engine.evaluation.min_tdcf import Tandem
from sls.engine.evaluation.results import POOLED, Breakdown, Cell
from sls.metrics.eer import Ranking, eer_of_curve
from sls.metrics.intervals import estimate_eer
from sls.metrics.sampling import Sampling

MAX_CROSSED_CELLS = 3_000
"""A table of more cells than this is no table any more."""


@dataclass(frozen=True)
class Condition:
    """Trials, all or those of a cell, with what is known of them."""

    ranking: Ranking
    factors: Sequence[Factor]
    tandem: Tandem | None
    values: tuple[str, ...] = ()
    """By which they were selected, the last one first."""

    def find(self, name: str) -> Factor | None:
        """Returns a factor by its name."""
        return next((factor for factor in self.factors if factor.name == name), None)

    def split(self, factor: Factor) -> Iterator[Condition]:
        """Yields the trials of each value of a factor that occurs."""
        for value, ranking in factor.split(self.ranking):
            tandem = self.tandem
            if tandem is not None:
                tandem = tandem.select(factor.name, value, factor.is_spoof_only)
            yield Condition(ranking, self.factors, tandem, (value, *self.values))

    def split_and_pool(self, factor: Factor) -> Iterator[Condition]:
        """Yields the trials of each value of a factor, and then all of them."""
        yield from self.split(factor)
        yield replace(self, values=(POOLED, *self.values))

    def sampling(self) -> Sampling:
        """Returns what intervals rest on: clusters where these join trials, else trials."""
        found = sample(self.ranking, self.find(SPEAKER), self.find(ATTACK))
        return found if found.is_clustered else found.trials or found

    def measure(self, *, has_intervals: bool) -> Cell:
        """Returns the numbers of a cell, with the intervals of its EER or without."""
        ranking = self.ranking
        counts = (ranking.num_bonafide, ranking.num_spoof)
        note = _explain_missing(ranking)
        if note:
            return Cell(self.values, *counts, eer=None, note=note)
        curve = ranking.curve()
        min_tdcf = None
        if self.tandem is not None:
            try:
                min_tdcf = self.tandem.linear_cost().least(curve)
            except ValueError as error:
                note = str(error)
        estimates = estimate_eer(ranking, self.sampling()).kinds if has_intervals else ()
        intervals = tuple(found.interval() for found in estimates)
        return Cell(self.values, *counts, eer_of_curve(curve).eer, min_tdcf, intervals, note)


def break_down(everything: Condition, fields: Sequence[str]) -> tuple[Breakdown, ...]:
    """Returns one breakdown for each field, with intervals, and one for each pair that can cross, without.

    A field of spoofed trials (attack, vocoder) crosses one of both classes (codec, compression); speakers
    cross nothing, since few trials would be left.
    """
    named = (everything.find(name) for name in dict.fromkeys(fields))
    factors = [factor for factor in named if factor is not None and not factor.is_single]
    crossed = [
        (spoofed, shared)
        for spoofed in factors
        for shared in factors
        if spoofed.is_spoof_only and not shared.is_spoof_only and shared.name != SPEAKER
        if len(spoofed.values) * len(shared.values) <= MAX_CROSSED_CELLS
        if not spoofed.is_nested_in(shared, everything.ranking)
    ]
    single = (
        (factor, tuple(part.measure(has_intervals=True) for part in everything.split(factor)))
        for factor in factors
    )
    return (
        *(Breakdown((factor.name,), (factor.is_spoof_only,), cells) for factor, cells in single),
        *(_break_down_by_two(everything, *pair) for pair in crossed),
    )


def _break_down_by_two(everything: Condition, spoofed: Factor, shared: Factor) -> Breakdown:
    cells = [
        cell.measure(has_intervals=False)
        for column in everything.split_and_pool(shared)
        for cell in column.split_and_pool(spoofed)
    ]
    order = {value: place for place, value in enumerate((*spoofed.values, POOLED))}
    cells.sort(key=lambda cell: order[cell.values[0]])
    return Breakdown((spoofed.name, shared.name), (True, False), tuple(cells))


def _explain_missing(ranking: Ranking) -> str:
    """Returns why there is no EER; empty where there is one."""
    if not ranking.num_bonafide:
        return "no bona fide trial"
    if not ranking.num_spoof:
        return "no spoofed trial"
    return "all scores are the same" if ranking.scores[0] == ranking.scores[-1] else ""
