"""A DET curve and the scores, as small as a figure or a report can show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sls.metrics.det import DetCurve

MAX_BINS = 80
CURVE_GRID = 0.02
"""Distance of two points of a thinned DET curve, in natural-log odds: finer than a line is wide."""


@dataclass(frozen=True)
class CurvePoints:
    """A DET curve, thinned to what a figure can show; arrays of shape `(points,)`, fractions."""

    frr: NDArray[np.float64]
    far: NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Scores of both classes in common bins."""

    edges: NDArray[np.float64]
    """Shape `(bins + 1,)`."""
    bonafide: NDArray[np.int64]
    spoof: NDArray[np.int64]
    """Trials in each bin, shape `(bins,)`."""


def thin_curve(curve: DetCurve) -> CurvePoints:
    """Returns the points of a DET curve that a figure can tell apart."""
    edge = 1e-9
    grid = [
        np.round(np.log((rate + edge) / (1 - rate + edge)) / CURVE_GRID) for rate in (curve.frr, curve.far)
    ]
    is_new = np.ones(curve.frr.size, dtype=bool)
    is_new[1:-1] = (np.diff(grid[0])[:-1] != 0) | (np.diff(grid[1])[:-1] != 0)
    return CurvePoints(curve.frr[is_new], curve.far[is_new])


def count_scores(bonafide: NDArray[np.float64], spoof: NDArray[np.float64]) -> Histogram:
    """Returns how many scores of each class, both ascending, fall into each of common bins."""
    low, high = min(bonafide[0], spoof[0]), max(bonafide[-1], spoof[-1])
    num_bins = min(MAX_BINS, max(10, round(np.sqrt(bonafide.size + spoof.size))))
    edges = np.linspace(low, high, num_bins + 1)
    counts = (np.histogram(scores, edges)[0].astype(np.int64) for scores in (bonafide, spoof))
    return Histogram(edges, *counts)
