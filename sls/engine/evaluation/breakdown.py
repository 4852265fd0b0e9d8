"""Results by attack, codec, speaker and whatever else a key knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sls.engine.evaluation.clusters import sample_clusters, sample_trials
from sls.engine.evaluation.factors import ATTACK, SPEAKER, Factor
from sls.engine.evaluation.results import POOLED, Breakdown, Cell
from sls.engine.evaluation.tandem import Tandem
from sls.metrics.det import Ranking, eer_of_curve
from sls.metrics.intervals import estimate_eer
from sls.metrics.sampling import Sampling
from sls.metrics.tdcf import minimum_of_curve

MAX_CROSSED_CELLS = 3_000
"""A table of more cells than this is no table any more."""


@dataclass(frozen=True)
class BreakdownSource:
    """What every cell is computed from."""

    ranking: Ranking
    factors: Sequence[Factor]
    tandem: Tandem | None

    def find(self, name: str) -> Factor | None:
        """Returns a factor by its name."""
        return next((factor for factor in self.factors if factor.name == name), None)

    def samplings(self, ranking: Ranking) -> tuple[Sampling, ...]:
        """Returns what intervals of some of the trials rest on: on trials, and on clusters where these are known."""
        clustered = sample_clusters(ranking, self.find(SPEAKER), self.find(ATTACK))
        if clustered is None or not clustered.is_clustered:
            return (sample_trials(ranking),)
        return (sample_trials(ranking), clustered)


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
    factors = [factor for factor in named if factor is not None and not factor.is_single]
    crossed = [
        (spoofed, shared)
        for spoofed in factors
        for shared in factors
        if spoofed.is_spoof_only and not shared.is_spoof_only and shared.name != SPEAKER
        if len(spoofed.values) * len(shared.values) <= MAX_CROSSED_CELLS
        if not spoofed.is_nested_in(shared, source.ranking)
    ]
    everything = _Condition((), source.ranking, source.tandem)
    single = (
        (factor, tuple(_measure(condition, source) for condition in _split(everything, factor)))
        for factor in factors
    )
    return (
        *(Breakdown((factor.name,), (factor.is_spoof_only,), cells) for factor, cells in single),
        *(_break_down_by_two(source, *pair) for pair in crossed),
    )


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


def _measure(condition: _Condition, source: BreakdownSource | None = None) -> Cell:
    """Returns the numbers of one cell, with the intervals of its EER where a source is given."""
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
    samplings = source.samplings(ranking) if source is not None else ()
    intervals = tuple(estimate_eer(ranking, sampling).interval() for sampling in samplings)
    return Cell(condition.values, *counts, eer_of_curve(curve).eer, min_tdcf, intervals, note)


def _explain_missing(ranking: Ranking) -> str:
    """Returns why there is no EER; empty where there is one."""
    if not ranking.num_bonafide:
        return "no bona fide trial"
    if not ranking.num_spoof:
        return "no spoofed trial"
    return "all scores are the same" if ranking.scores[0] == ranking.scores[-1] else ""
