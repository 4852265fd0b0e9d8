"""How well scores do as log-likelihood ratios (LLR), over all priors and costs at once.

Source: Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 2006 (Cllr, eq. 14; its minimum, section 8).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sls.metrics.det import check_scores
from sls.metrics.pav import count_by_score, pool_adjacent_violators


def compute_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Returns the cost of log-likelihood ratios in bits: 0 is perfect, 1 is what no information costs.

    Args:
        bonafide: LLRs of bona fide trials, natural logarithm, shape `(bona fide trials,)`.
        spoof: LLRs of spoofed trials, shape `(spoofed trials,)`.

    Raises:
        ValueError: A class is missing, or the scores are NaN, infinite or all the same.
    """
    bonafide, spoof = check_scores(bonafide, spoof)
    cost = np.logaddexp(0, -bonafide).mean() + np.logaddexp(0, spoof).mean()
    return float(cost / 2 / math.log(2))


def compute_min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Returns the Cllr after the best monotone calibration of these very scores (PAV), in bits.

    Args:
        bonafide: Scores of bona fide trials, shape `(bona fide trials,)`; higher is more bona fide.
        spoof: Scores of spoofed trials, shape `(spoofed trials,)`.

    Raises:
        ValueError: A class is missing, or the scores are NaN, infinite or all the same.
    """
    bonafide, spoof = check_scores(bonafide, spoof)
    blocks = pool_adjacent_violators(*count_by_score(bonafide, spoof)[1:])
    with np.errstate(divide="ignore"):
        odds = np.log(blocks.bonafide / bonafide.size) - np.log(blocks.spoof / spoof.size)
    costs = np.zeros(2)
    for index, (counts, llrs) in enumerate(((blocks.bonafide, odds), (blocks.spoof, -odds))):
        held = counts > 0
        costs[index] = np.dot(counts[held], np.logaddexp(0, -llrs[held])) / counts.sum()
    return float(costs.sum() / 2 / math.log(2))
