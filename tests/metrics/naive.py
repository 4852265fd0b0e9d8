"""The metrics in their plainest form: one threshold after the other, as a reference for the fast ones."""

from __future__ import annotations

import numpy as np


def naive_curve(bonafide: list[float], spoof: list[float]) -> list[tuple[float, float, float]]:
    """Returns (FRR, FAR, threshold) for every step of the sweep, each counted anew."""
    trials = [(score, 0) for score in bonafide] + [(score, 1) for score in spoof]
    trials.sort(key=lambda trial: trial[0])  # stable: bona fide first among equals
    points = [(0.0, 1.0, trials[0][0] - 0.001)]
    for step in range(1, len(trials) + 1):
        rejected = trials[:step]
        misses = sum(1 for _, kind in rejected if kind == 0)
        points.append((misses / len(bonafide), 1 - (step - misses) / len(spoof), rejected[-1][0]))
    return points


def naive_eer(bonafide: list[float], spoof: list[float]) -> float:
    best = min(naive_curve(bonafide, spoof), key=lambda point: abs(point[0] - point[1]))
    return (best[0] + best[1]) / 2


def exact_eer(bonafide: list[float], spoof: list[float]) -> float:
    """The same in whole numbers: of two steps that are equally close the first one counts, without rounding."""
    steps = [
        (round(frr * len(bonafide)), round(far * len(spoof))) for frr, far, _ in naive_curve(bonafide, spoof)
    ]
    misses, accepted = min(steps, key=lambda step: abs(step[0] * len(spoof) - step[1] * len(bonafide)))
    return (misses / len(bonafide) + accepted / len(spoof)) / 2


def naive_min_cost(bonafide: list[float], spoof: list[float], c0: float, c1: float, c2: float) -> float:
    return min(c0 + c1 * frr + c2 * far for frr, far, _ in naive_curve(bonafide, spoof))


def draw_scores(seed: int, num_bonafide: int, num_spoof: int, shift: float = 2.0, decimals: int = 1):
    """Returns scores of both classes, rounded so that many of them tie."""
    rng = np.random.default_rng(seed)
    bonafide = np.round(rng.normal(shift, 1, num_bonafide), decimals)
    return bonafide, np.round(rng.normal(0, 1, num_spoof), decimals)
