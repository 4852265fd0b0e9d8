"""How trials belong together: by what a key says of them, and by the speakers and attacks that intervals rest on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sls.data.tables.columns import Categories
from sls.data.tables.score_files import JoinedScores
from sls.metrics.eer import Ranking
from sls.metrics.sampling import BONAFIDE, SPOOF, Axis, Sampling, count_equal

UNKNOWN = "-"
"""What a key holds where nothing is known."""
SPOOF_FIELDS = ("attack", "vocoder")
"""Fields that describe how a trial was spoofed."""
SPEAKER, ATTACK = "speaker", "attack"
SPEAKERS, ATTACKS = "speakers", "attacks"


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
    columns, is_bonafide = joined.key.fields, joined.is_bonafide
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


def halve_by_speaker(joined: JoinedScores) -> tuple[JoinedScores, JoinedScores]:
    """Returns two halves of other speakers, the same each time; raises ValueError where fewer than two are known."""
    if SPEAKER not in joined.key.fields:
        raise ValueError(f"{joined.key.source}: found no speakers, expected them for a split by speaker")
    values, codes = order_values(joined.key.fields.categories(SPEAKER))
    if len(values) < 2:
        raise ValueError(f"{joined.key.source}: found one speaker, {values[0]}, expected two or more")
    counts = np.bincount(codes, minlength=len(values))
    sizes, is_second = [0, 0], np.zeros(len(values), dtype=bool)
    for speaker in np.argsort(-counts, kind="stable"):
        smaller = int(sizes[1] < sizes[0])
        is_second[speaker] = smaller
        sizes[smaller] += int(counts[speaker])
    return joined.select(~is_second[codes]), joined.select(is_second[codes])


def halve_systems(systems: Mapping[str, JoinedScores]) -> list[dict[str, JoinedScores]]:
    """Returns two halves of the scores of several systems, as `halve_by_speaker` does."""
    halved = {name: halve_by_speaker(joined) for name, joined in systems.items()}
    return [{name: halves[place] for name, halves in halved.items()} for place in (0, 1)]


def _natural_order(value: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", value)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def sample(
    ranking: Ranking, speakers: Factor | None, attacks: Factor | None, *, is_shared: bool = False
) -> Sampling:
    """Returns what intervals rest on: speakers and attacks, each class by what is known of it; else trials.

    A class whose speakers are not known is sampled by attacks, where these are known, or by trials. Trials with the
    value `-` among others that are known count as those of one speaker, or attack. An only speaker or attack
    stays as it is; the sampling counts it all the same. If shared, trials are numbered as the caller does, so that
    those of several systems match.
    """
    spoofed = ~ranking.is_bonafide
    known = [
        Axis((_known(speakers, ranking, ranking.is_bonafide), _known(speakers, ranking, spoofed)), SPEAKERS),
        Axis((None, _known(attacks, ranking, spoofed)), ATTACKS),
    ]
    of_trials = _trial_axes(ranking, is_shared)
    clusters = {name: int(np.count_nonzero(counts)) for axis in known for name, counts in _name_counts(axis)}
    if not clusters:
        return Sampling(of_trials)
    weights = {name: count_equal(counts) for axis in known for name, counts in _name_counts(axis)}
    axes = [axis.without_single() for axis in known]
    joins = [any(axis.codes[side] is not None for axis in axes) for side in (BONAFIDE, SPOOF)]
    axes += [axis for axis, is_joined in zip(of_trials, joins, strict=True) if not is_joined]
    return Sampling(tuple(axes), _say(clusters, joins), clusters, weights, Sampling(of_trials))


def _known(factor: Factor | None, ranking: Ranking, chosen: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """Returns the codes of some ranked trials, or None where the key knows none of their values."""
    if factor is None:
        return None
    codes = factor.codes[ranking.trials[chosen]]
    unknown = factor.values.index(UNKNOWN) if UNKNOWN in factor.values else -1
    return None if (codes == unknown).all() else codes


def _name_counts(axis: Axis) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yields the trials of each cluster, by name; the smaller class alone where both share all clusters."""
    bonafide, spoof = axis.counts
    if axis.name == ATTACKS or (bonafide is not None and spoof is not None and _are_shared(bonafide, spoof)):
        shared = [counts for counts in (bonafide, spoof) if counts is not None]
        if shared:
            yield axis.name, min(shared, key=count_equal)
        return
    for label, counts in (("bona fide", bonafide), ("spoofed", spoof)):
        if counts is not None:
            yield f"{label} {axis.name}", counts


def _are_shared(bonafide: NDArray[np.float64], spoof: NDArray[np.float64]) -> bool:
    size = max(bonafide.size, spoof.size)
    one, other = (np.pad(counts, (0, size - counts.size)) > 0 for counts in (bonafide, spoof))
    return bool((one == other).all())


def _trial_axes(ranking: Ranking, is_shared: bool) -> tuple[Axis, Axis]:
    """Returns an axis for each class, on which every trial is a cluster."""
    trials = ranking.trials if is_shared else np.arange(ranking.trials.size)
    return Axis((trials[ranking.is_bonafide], None)), Axis((None, trials[~ranking.is_bonafide]))


def _say(clusters: Mapping[str, int], joins: Sequence[bool]) -> str:
    """Returns what is sampled in words, such as `bona fide trials, 12 spoofed speakers and 5 attacks`."""
    parts = [f"{count} {name if count != 1 else name.removesuffix('s')}" for name, count in clusters.items()]
    if not any(joins):
        return f"trials of {' and '.join(parts)}"
    if not joins[BONAFIDE]:
        parts.insert(0, "bona fide trials")
    if not joins[SPOOF]:
        parts.append("spoofed trials")
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
