"""Trials in the order of their scores: all that an error rate depends on.

Sorting once and working on ranks is what makes breakdowns of half a million trials cheap: the trials of a
breakdown's cell, taken in rank order, are already sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sls.metrics.det import FIRST_THRESHOLD_MARGIN, DetCurve, check_scores


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

    @cached_property
    def bonafide_below(self) -> NDArray[np.int64]:
        """Bona fide trials among the first k, for k from 0; shape `(trials + 1,)`."""
        return np.concatenate(([0], np.cumsum(self.is_bonafide, dtype=np.int64)))

    def at(self, ranks: NDArray[np.integer]) -> Ranking:
        """Returns the ranking of some of the trials, given by their ascending ranks, shape `(chosen,)`."""
        return Ranking(self.trials[ranks], self.scores[ranks], self.is_bonafide[ranks])

    def curve(self) -> DetCurve:
        """Returns the DET curve, as `sls.metrics.det.det_curve` does."""
        below = self.bonafide_below
        spoof_below = np.arange(below.size) - below
        thresholds = np.concatenate(([self.scores[0] - FIRST_THRESHOLD_MARGIN], self.scores))
        return DetCurve(
            below / self.num_bonafide, (self.num_spoof - spoof_below) / self.num_spoof, thresholds
        )


def rank_trials(scores: ArrayLike, is_bonafide: ArrayLike) -> Ranking:
    """Ranks trials by their scores.

    Args:
        scores: Shape `(trials,)`; higher is more bona fide.
        is_bonafide: Whether each trial is bona fide, shape `(trials,)`.

    Raises:
        ValueError: A class is missing, or the scores are NaN, infinite or all the same.
    """
    scores = np.asarray(scores, dtype=np.float64)
    is_bonafide = np.asarray(is_bonafide, dtype=bool)
    if scores.shape != is_bonafide.shape:
        raise ValueError(f"found {scores.shape} scores and {is_bonafide.shape} labels, expected as many")
    check_scores(scores[is_bonafide], scores[~is_bonafide])
    bonafide, spoof = (np.flatnonzero(chosen) for chosen in (is_bonafide, ~is_bonafide))
    bonafide = bonafide[np.argsort(scores[bonafide])]
    spoof = spoof[np.argsort(scores[spoof])]
    ranked = np.zeros(scores.size, dtype=bool)
    ranked[np.searchsorted(scores[spoof], scores[bonafide], side="left") + np.arange(bonafide.size)] = True
    trials = np.empty(scores.size, dtype=np.intp)
    trials[ranked], trials[~ranked] = bonafide, spoof
    return Ranking(trials, scores[trials], ranked)
