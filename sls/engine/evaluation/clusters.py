"""What intervals rest on: trials as independent ones, or the speakers and attacks that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sls.engine.evaluation.factors import UNKNOWN, Factor
from sls.metrics.det import Ranking
from sls.metrics.sampling import BONAFIDE, SPOOF, Axis, Sampling, count_equal

SPEAKERS, ATTACKS = "speakers", "attacks"


def sample_trials(ranking: Ranking, *, is_shared: bool = False) -> Sampling:
    """Returns the sampling of trials that are taken as independent.

    Args:
        ranking: The trials.
        is_shared: Number them as the caller does, so that those of several rankings match.
    """
    return Sampling(_trial_axes(ranking, is_shared, (True, True)))


def sample_clusters(
    ranking: Ranking, speakers: Factor | None, attacks: Factor | None, *, is_shared: bool = False
) -> Sampling | None:
    """Returns the sampling of speakers and attacks, each class by what is known of it; None where nothing is.

    A class whose speakers are not known is sampled by attacks, where these are known, or by trials. Trials with the
    value `-` among others that are known count as those of one speaker, or attack. An only speaker or attack
    stays as it is; the sampling counts it all the same.
    """
    spoofed = ~ranking.is_bonafide
    known = [
        Axis((_known(speakers, ranking, ranking.is_bonafide), _known(speakers, ranking, spoofed)), SPEAKERS),
        Axis((None, _known(attacks, ranking, spoofed)), ATTACKS),
    ]
    clusters = {name: int(np.count_nonzero(counts)) for axis in known for name, counts in _name_counts(axis)}
    if not clusters:
        return None
    weights = {name: count_equal(counts) for axis in known for name, counts in _name_counts(axis)}
    axes = [axis.without_single() for axis in known]
    joins = [any(axis.codes[side] is not None for axis in axes) for side in (BONAFIDE, SPOOF)]
    axes += _trial_axes(ranking, is_shared, (not joins[BONAFIDE], not joins[SPOOF]))
    return Sampling(tuple(axes), _say(clusters, joins), clusters, weights)


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


def _trial_axes(ranking: Ranking, is_shared: bool, wanted: tuple[bool, bool]) -> tuple[Axis, ...]:
    """Returns an axis for each class that is wanted, on which every trial is a cluster."""
    trials = ranking.trials if is_shared else np.arange(ranking.trials.size)
    bonafide, spoof = Axis((trials[ranking.is_bonafide], None)), Axis((None, trials[~ranking.is_bonafide]))
    return tuple(axis for axis, is_wanted in zip((bonafide, spoof), wanted, strict=True) if is_wanted)


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
