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

    The shares are the slopes of the greatest convex minorant of the bona fide count against the count of all.
    """
    x = np.concatenate([[0.0], np.cumsum(bonafide + spoof)])
    y = np.concatenate([[0.0], np.cumsum(bonafide)])
    corners = _lower_hull(x, y)
    return Blocks(np.diff(y[corners]), np.diff((x - y)[corners]), corners[:-1], corners[1:] - 1)


def _lower_hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns the indices of the corners of the lower convex hull (Andrew's monotone chain)."""
    slopes = np.diff(y) / np.diff(x)
    # Only a point at which the curve turns upwards can be a corner: few, where scores separate the classes.
    candidates = np.concatenate([[0], np.flatnonzero(slopes[1:] > slopes[:-1]) + 1, [x.size - 1]])
    xs, ys = x[candidates].tolist(), y[candidates].tolist()
    hull: list[int] = []
    for point in range(len(xs)):
        while len(hull) > 1:
            last, before = hull[-1], hull[-2]
            rise = (ys[last] - ys[before]) * (xs[point] - xs[before])
            if rise < (ys[point] - ys[before]) * (xs[last] - xs[before]):
                break
            hull.pop()
        hull.append(point)
    return candidates[hull].astype(np.intp)
