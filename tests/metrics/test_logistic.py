"""Fusion of several systems, where the best that can be reached is known."""

import numpy as np
import pytest
from scipy import stats

from sls.metrics.eer import compute_eer
from sls.metrics.logistic import fit_linear_llr

SEPARATIONS = np.array([[2.0], [1.0]])
"""Between the class means of two systems, in their own deviations."""
SCALES = np.array([[0.5], [3.0]])


def draw(seed: int, size: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two systems that err independently of each other, each on a scale of its own."""
    rng = np.random.default_rng(seed)
    bonafide, spoof = rng.normal(size=(2, size)) + SEPARATIONS, rng.normal(size=(2, size // 2))
    return SCALES * bonafide, SCALES * spoof


def test_fusion_of_two_independent_systems_reaches_the_optimum():
    fusion = fit_linear_llr(*draw(1))
    # The LLRs of independent systems add up.
    assert fusion.weights == pytest.approx((SEPARATIONS / SCALES).ravel(), rel=0.05)
    assert fusion.offset == pytest.approx(-float((SEPARATIONS**2).sum()) / 2, rel=0.05)
    fused = [fusion.apply(scores) for scores in draw(2)]
    optimum = stats.norm.cdf(-np.sqrt((SEPARATIONS**2).sum()) / 2)
    assert compute_eer(*fused).eer == pytest.approx(optimum, abs=0.004)
    alone = [compute_eer(*(scores[place] for scores in draw(2))).eer for place in (0, 1)]
    assert alone == pytest.approx(stats.norm.cdf(-SEPARATIONS.ravel() / 2), abs=0.006)


def test_a_system_that_is_there_twice_changes_nothing():
    bonafide, spoof = draw(3, 4_000)
    once = fit_linear_llr(bonafide, spoof)
    twice = fit_linear_llr(bonafide[[0, 1, 0]], spoof[[0, 1, 0]])
    assert twice.apply(bonafide[[0, 1, 0]]) == pytest.approx(once.apply(bonafide), abs=1e-3)
    assert twice.weights[0] == pytest.approx(twice.weights[2])


def test_a_system_that_knows_nothing_has_no_weight():
    bonafide, spoof = draw(4)
    rng = np.random.default_rng(5)
    noise = [rng.normal(size=(1, part.shape[1])) for part in (bonafide, spoof)]
    fit = fit_linear_llr(np.vstack([bonafide, noise[0]]), np.vstack([spoof, noise[1]]))
    assert abs(fit.weights[2]) < 0.05
