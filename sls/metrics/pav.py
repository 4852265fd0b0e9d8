"""Pooling adjacent violators (PAV): the best monotone map from scores to odds.

Source: Ayer et al., "An empirical distribution function for sampling with incomplete information", Annals of
Mathematical Statistics 1955.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Blocks:
    """Runs of ascending scores with one log-likelihood ratio each; arrays of shape `(blocks,)`."""

    bonafide: NDArray[np.float64]
    spoof: NDArray[np.float64]
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    """Index of the first and of the last distinct score."""


def count_by_score(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns distinct scores, ascending, and how many trials of each class have them."""
    scores, codes = np.unique(np.concatenate([bonafide, spoof]), return_inverse=True)
    counts = (
        np.bincount(part, minlength=scores.size).astype(np.float64)
        for part in (codes[: bonafide.size], codes[bonafide.size :])
    )
    bonafide_counts, spoof_counts = counts
    return scores, bonafide_counts, spoof_counts


def pool_adjacent_violators(bonafide: NDArray[np.float64], spoof: NDArray[np.float64]) -> Blocks:
    """Merges neighbours until the share of bona fide trials ascends.

    Args:
        bonafide: Bona fide trials of each distinct score, in ascending order; shape `(scores,)`.
        spoof: Spoofed trials of each of them.
    """
    # Here, since SciPy's optimizers take a while to load, and the served model only applies what was fitted.
    from scipy.optimize import isotonic_regression

    trials = bonafide + spoof
    edges = isotonic_regression(bonafide / trials, weights=trials).blocks
    starts = edges[:-1]
    return Blocks(np.add.reduceat(bonafide, starts), np.add.reduceat(spoof, starts), starts, edges[1:] - 1)
