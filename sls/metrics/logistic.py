"""Log-likelihood ratios (LLR) that are linear in the scores of one system or several: calibration, and fusion.

Source: Pigeon, Druyts and Verlinde, "Applying logistic regression to the fusion of the NIST'99 1-speaker
submissions", DSP 2000.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_NEWTON_STEPS = 100
NEWTON_TOLERANCE = 1e-10
RIDGE = 1e-6
"""Weight of each squared slope, per standard deviation of the scores: keeps the fit finite where a threshold
separates the classes or two systems are the same, and changes nothing visible elsewhere."""


@dataclass(frozen=True)
class LinearLlr:
    """LLR = sum of weight * score over systems, + offset."""

    weights: tuple[float, ...]
    """One for each system; negative where it only corrects the others."""
    offset: float
    score_ranges: tuple[tuple[float, float], ...]
    """Lowest and highest score of each system in the fit; beyond them the plane is extrapolated."""

    def apply(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns the LLR of each trial, shape `(trials,)`, of scores of shape `(systems, trials)`."""
        return np.asarray(self.weights) @ np.asarray(scores, dtype=np.float64) + self.offset


def fit_linear_llr(bonafide: NDArray[np.float64], spoof: NDArray[np.float64]) -> LinearLlr:
    """Fits LLRs by logistic regression, both classes weighing the same.

    Args:
        bonafide: Scores of bona fide trials, shape `(systems, bona fide trials)`; finite, and of no system constant.
        spoof: Scores of spoofed trials, shape `(systems, spoofed trials)`.
    """
    scores = np.concatenate([bonafide, spoof], axis=1)
    num_bonafide, num_spoof = bonafide.shape[1], spoof.shape[1]
    centres, spreads = scores.mean(axis=1), scores.std(axis=1)
    inputs = np.vstack([(scores - centres[:, None]) / spreads[:, None], np.ones(scores.shape[1])])
    is_bonafide = np.arange(scores.shape[1]) < num_bonafide
    importance = np.where(is_bonafide, 0.5 / num_bonafide, 0.5 / num_spoof)
    fitted = _minimise(inputs, is_bonafide.astype(np.float64), importance)
    weights = fitted[:-1] / spreads
    return LinearLlr(
        tuple(weights.tolist()),
        float(fitted[-1] - weights @ centres),
        tuple(zip(scores.min(axis=1).tolist(), scores.max(axis=1).tolist(), strict=True)),
    )


def _minimise(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], importance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the weights `(systems + 1,)` of the least weighted cross entropy, by Newton's method."""
    weights = np.zeros(len(inputs))
    penalty = np.full(len(inputs), RIDGE)
    penalty[-1] = 0.0

    def loss(candidate: NDArray[np.float64]) -> float:
        logits = candidate @ inputs
        return float(importance @ (np.logaddexp(0, logits) - targets * logits) + penalty @ candidate**2 / 2)

    current = loss(weights)
    for _ in range(MAX_NEWTON_STEPS):
        chances = np.exp(-np.logaddexp(0, -(weights @ inputs)))
        gradient = inputs @ (importance * (chances - targets)) + penalty * weights
        curvature = (inputs * (importance * chances * (1 - chances))) @ inputs.T + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        length = 1.0
        while loss(weights - length * step) > current and length > NEWTON_TOLERANCE:
            length /= 2
        weights = weights - length * step
        previous, current = current, loss(weights)
        if previous - current < NEWTON_TOLERANCE * max(current, NEWTON_TOLERANCE):
            break
    return weights
