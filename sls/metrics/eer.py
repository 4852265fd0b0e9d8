"""The detection error trade-off and the equal error rate, as the ASVspoof challenges compute them.

Source: the evaluation package of ASVspoof 2019 and 2021 (`compute_det_curve`, `compute_eer`), which follows
Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997. Scores are sorted
in ascending order, bona fide before spoof where they tie; the sweep starts at (FRR 0, FAR 1), with everything
accepted, and each trial that falls below the threshold moves it by one step.

Sorting once and working on ranks is what makes breakdowns of half a million trials cheap: the trials of a
breakdown's cell, taken in rank order, are already sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

FIRST_THRESHOLD_MARGIN = 0.001
"""How far below the lowest score the challenges put the threshold that accepts everything."""


@dataclass(frozen=True)
class DetCurve:
    """Error rates at every threshold of a sweep; the arrays have the shape `(trials + 1,)`."""

    frr: NDArray[np.float64]
    """False rejection rate: share of bona fide trials at or below the threshold; ascends from 0 to 1."""
    far: NDArray[np.float64]
    """False acceptance rate: share of spoofed trials above the threshold; descends from 1 to 0."""
    thresholds: NDArray[np.float64]
    """Ascending; a trial is rejected when its score is at or below the threshold."""


@dataclass(frozen=True)
class Eer:
    """An equal error rate and where it lies."""

    eer: float
    """Fraction, from 0 to 1."""
    threshold: float


@dataclass(frozen=True)
class Ranking:
    """Trials in ascending order of score, bona fide first among equals; every array is `(trials,)`."""

    trials: NDArray[np.intp]
    """Index of each ranked trial in the caller's arrays."""
    scores: NDArray[np.float64]
    is_bonafide: NDArray[np.bool_]

    @cached_property
    def num_bonafide(self) -> int:
        """Number of bona fide trials."""
        return int(np.count_nonzero(self.is_bonafide))

    @property
    def num_spoof(self) -> int:
        """Number of spoofed trials."""
        return self.is_bonafide.size - self.num_bonafide

    def at(self, ranks: NDArray[np.integer]) -> Ranking:
        """Returns the ranking of some of the trials, given by their ascending ranks, shape `(chosen,)`."""
        return Ranking(self.trials[ranks], self.scores[ranks], self.is_bonafide[ranks])

    def draw_ties(self, rng: np.random.Generator) -> Ranking:
        """Returns the ranking with equal scores in a drawn order, so that neither class comes first among them."""
        return self.at(np.lexsort((rng.random(self.scores.size), self.scores)))

    def curve(self) -> DetCurve:
        """Returns the DET curve, as `det_curve` does."""
        return _sweep(self.is_bonafide, self.scores)


def rank_trials(scores: ArrayLike, is_bonafide: ArrayLike) -> Ranking:
    """Ranks trials by their scores `(trials,)`, higher is more bona fide; raises what `check_scores` does."""
    scores = np.asarray(scores, dtype=np.float64)
    is_bonafide = np.asarray(is_bonafide, dtype=bool)
    if scores.shape != is_bonafide.shape:
        raise ValueError(f"found {scores.shape} scores and {is_bonafide.shape} labels, expected as many")
    check_scores(scores[is_bonafide], scores[~is_bonafide])
    bonafide, spoof = (np.flatnonzero(chosen) for chosen in (is_bonafide, ~is_bonafide))
    bonafide = bonafide[np.argsort(scores[bonafide])]
    spoof = spoof[np.argsort(scores[spoof])]
    ranked, ascending = merge_sorted(scores[bonafide], scores[spoof])
    trials = np.empty(scores.size, dtype=np.intp)
    trials[ranked], trials[~ranked] = bonafide, spoof
    return Ranking(trials, ascending, ranked)


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> DetCurve:
    """Sweeps a threshold over all scores.

    Args:
        bonafide: Scores of bona fide trials, shape `(bona fide trials,)`; higher is more bona fide.
        spoof: Scores of spoofed trials, shape `(spoofed trials,)`.

    Raises:
        ValueError: A class is missing, or the scores are NaN, infinite or all the same.
    """
    bonafide, spoof = check_scores(bonafide, spoof)
    return _sweep(*merge_sorted(np.sort(bonafide), np.sort(spoof)))


def compute_eer(bonafide: ArrayLike, spoof: ArrayLike) -> Eer:
    """Returns the equal error rate by the challenges' rule.

    Args and errors as `det_curve`.

    Example:
        >>> compute_eer([1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 1.5, 0.5])
        Eer(eer=0.25, threshold=1.0)
    """
    return eer_of_curve(det_curve(bonafide, spoof))


def eer_of_curve(curve: DetCurve) -> Eer:
    """Returns the mean of FRR and FAR at the first threshold where they are closest."""
    index = find_crossing(curve)
    eer = float(curve.frr[index] + curve.far[index]) / 2
    return Eer(eer, float(curve.thresholds[index]))


def find_crossing(curve: DetCurve) -> int:
    """Returns how many trials are rejected at the first threshold where FRR and FAR are closest."""
    return int(np.argmin(np.abs(curve.frr - curve.far)))


def merge_sorted(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Merges two ascending arrays, bona fide first among equals: the challenges' stable sort, but faster.

    Returns which of the merged scores are bona fide, and the scores; both of shape `(trials,)`.
    """
    is_bonafide = np.zeros(bonafide.size + spoof.size, dtype=bool)
    is_bonafide[np.searchsorted(spoof, bonafide, side="left") + np.arange(bonafide.size)] = True
    scores = np.empty(is_bonafide.size)
    scores[is_bonafide] = bonafide
    scores[~is_bonafide] = spoof
    return is_bonafide, scores


def _sweep(is_bonafide: NDArray[np.bool_], scores: NDArray[np.float64]) -> DetCurve:
    """Returns the DET curve of ascending scores, bona fide first among equals."""
    rejected_bonafide = np.concatenate(([0], np.cumsum(is_bonafide, dtype=np.int64)))
    num_bonafide = int(rejected_bonafide[-1])
    num_spoof = scores.size - num_bonafide
    accepted_spoof = num_spoof - (np.arange(scores.size + 1) - rejected_bonafide)
    thresholds = np.concatenate(([scores[0] - FIRST_THRESHOLD_MARGIN], scores))
    return DetCurve(rejected_bonafide / num_bonafide, accepted_spoof / num_spoof, thresholds)


def check_scores(
    bonafide: ArrayLike, spoof: ArrayLike, names: tuple[str, str] = ("bona fide", "spoofed")
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns both classes' scores as float64, once they can be ranked.

    Raises:
        ValueError: A class is missing, or the scores are NaN, infinite or all the same.
    """
    checked = []
    for name, scores in zip(names, (bonafide, spoof), strict=True):
        array = np.asarray(scores, dtype=np.float64)
        if array.ndim != 1:
            raise ValueError(f"scores of {name} trials: found shape {array.shape}, expected one dimension")
        if not array.size:
            raise ValueError(f"no {name} trial among the scores: both classes are needed")
        if not np.isfinite(array).all():
            kind = "NaN" if np.isnan(array).any() else "infinite"
            count = int(np.count_nonzero(~np.isfinite(array)))
            raise ValueError(f"scores of {name} trials: {count} of {array.size} not finite ({kind})")
        checked.append(array)
    first = checked[0][0]
    if (checked[0] == first).all() and (checked[1] == first).all():
        raise ValueError(f"scores are constant: every trial has {first:g}, so that nothing can be ranked")
    return checked[0], checked[1]
