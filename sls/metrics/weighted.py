"""Error rates of weighted trials: what a resample, in which a trial occurs several times or never, has.

A resample is never written out. Each row of an array is one resample, each column one ranked trial, each
entry how often that trial was drawn; cumulative sums along the ranks are then the sweep of
`sls.metrics.det.det_curve`, with the draws of one trial following each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sls.metrics.tdcf import LinearCost

Counts = NDArray[np.float64]
"""Whole numbers as float64: they stay far below 2**53, and products of them do not overflow."""


@dataclass(frozen=True)
class Totals:
    """Draws of each class in each resample, and how many of them rank below the columns that follow.

    Shape of each: `(resamples,)`.
    """

    bonafide: Counts
    spoof: Counts
    bonafide_below: Counts
    spoof_below: Counts


def eer_of_weights(weights: Counts, is_bonafide: NDArray[np.bool_], totals: Totals) -> Counts:
    """Returns each resample's EER, given that the rates cross within the columns.

    Args:
        weights: Draws of consecutive ranked trials, shape `(resamples, columns)`.
        is_bonafide: Class of each column, shape `(columns,)` or `(resamples, columns)`.
        totals: What surrounds the columns.

    Returns:
        Fractions by the challenges' rule, shape `(resamples,)`.
    """
    num_bonafide, num_spoof = totals.bonafide, totals.spoof
    is_bonafide = np.broadcast_to(is_bonafide, weights.shape)
    units = np.where(is_bonafide, num_spoof[:, None], num_bonafide[:, None])
    # (FRR - FAR) * bona fide draws * spoof draws: whole numbers, so that no rounding moves the crossing.
    start = num_spoof * totals.bonafide_below + num_bonafide * totals.spoof_below - num_bonafide * num_spoof
    gaps = start[:, None] + np.cumsum(weights * units, axis=1)
    crossing = np.minimum(np.count_nonzero(gaps < 0, axis=1), weights.shape[1] - 1)
    rows = np.arange(weights.shape[0])
    bonafide_upto = np.cumsum(weights * is_bonafide, axis=1)[rows, crossing]
    at_bonafide = is_bonafide[rows, crossing]
    drawn = weights[rows, crossing]
    gap_before = gaps[rows, crossing] - drawn * units[rows, crossing]
    bonafide_before = totals.bonafide_below + bonafide_upto - drawn * at_bonafide
    spoof_before = (gap_before + num_bonafide * num_spoof - num_spoof * bonafide_before) / num_bonafide
    before = Totals(num_bonafide, num_spoof, bonafide_before, spoof_before)
    return eer_at_crossing(at_bonafide, before)


def eer_at_crossing(at_bonafide: NDArray[np.bool_], before: Totals) -> Counts:
    """Returns each resample's EER, given the trial whose draws carry FRR past FAR and what ranks below it.

    The draws of that trial are the last steps of the sweep; the rule takes the step with the least gap, the
    earlier one of two.

    Args:
        at_bonafide: Whether the crossing trial is bona fide, shape `(resamples,)`.
        before: Totals, with the draws that rank below the crossing trial.
    """
    num_bonafide, num_spoof = before.bonafide, before.spoof
    gap = num_spoof * before.bonafide_below + num_bonafide * before.spoof_below - num_bonafide * num_spoof
    unit = np.where(at_bonafide, num_spoof, num_bonafide)
    steps = np.ceil(-gap / unit)
    is_earlier_closer = np.abs(gap + (steps - 1) * unit) <= np.abs(gap + steps * unit)
    steps = np.maximum(steps - is_earlier_closer, 0)
    frr = (before.bonafide_below + steps * at_bonafide) / num_bonafide
    far = 1 - (before.spoof_below + steps * ~at_bonafide) / num_spoof
    return (frr + far) / 2


def min_cost_of_weights(
    weights: Counts, is_bonafide: NDArray[np.bool_], totals: Totals, cost: LinearCost
) -> Counts:
    """Returns each resample's least normalised cost at the thresholds before, within and after the columns.

    Args and shapes as `eer_of_weights`.
    """
    miss_step = (cost.c1 / totals.bonafide)[:, None]
    accept_step = (cost.c2 / totals.spoof)[:, None]
    costs = np.cumsum(weights * np.where(is_bonafide, miss_step, -accept_step), axis=1)
    start = (
        cost.c0
        + cost.c1 * totals.bonafide_below / totals.bonafide
        + cost.c2 * (1 - totals.spoof_below / totals.spoof)
    )
    return (start + costs.min(axis=1, initial=0.0)) / cost.normaliser
