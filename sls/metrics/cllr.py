"""How well scores do as log-likelihood ratios (LLR), over all priors and costs at once, and at their best.

Sources: Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 2006 (Cllr, eq. 14; its minimum, section 8); Ayer et al., "An empirical distribution function for sampling
with incomplete information", Annals of Mathematical Statistics 1955 (pooling adjacent violators, PAV: the best
monotone map from scores to odds).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sls.metrics.eer import check_scores


def compute_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Returns the cost of LLRs of both classes, natural logarithms, in bits: 0 is perfect, 1 without information."""
    bonafide, spoof = check_scores(bonafide, spoof)
    cost = sum(float(losses.mean()) for losses in lose_nats(bonafide, spoof))
    return cost / 2 / math.log(2)


def lose_nats(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns what each LLR of both classes costs, in nats; the Cllr is the mean of both means, in bits."""
    return np.logaddexp(0, -bonafide), np.logaddexp(0, spoof)


def compute_min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Returns the Cllr after the best monotone calibration (PAV) of these very scores, as of `det_curve`, in bits."""
    bonafide, spoof = check_scores(bonafide, spoof)
    blocks = pool_adjacent_violators(*count_by_score(bonafide, spoof)[1:])
    with np.errstate(divide="ignore"):
        odds = np.log(blocks.bonafide / bonafide.size) - np.log(blocks.spoof / spoof.size)
    costs = np.zeros(2)
    for index, (counts, llrs) in enumerate(((blocks.bonafide, odds), (blocks.spoof, -odds))):
        held = counts > 0
        costs[index] = np.dot(counts[held], np.logaddexp(0, -llrs[held])) / counts.sum()
    return float(costs.sum() / 2 / math.log(2))


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
