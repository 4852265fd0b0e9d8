"""Thresholds that travel: Gaussian classes, shifted and scaled between tracks, for which everything is known."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from sls.metrics.dcf import DetectionCosts
from sls.metrics.eer import rank_trials
from sls.metrics.operating_points import (
    COST_POINT,
    EER_POINT,
    LOGISTIC_POINT,
    PAV_POINT,
    OperatingPoint,
    estimate_cllr,
    estimate_decisions,
    set_operating_points,
)
from sls.metrics.sampling import Axis, Sampling

SIZE = 60_000
COSTS = DetectionCosts(spoof_prior=0.2, miss_cost=1, false_alarm_cost=3)
SOURCE = (2.0, 0.0, 1.0)
"""Means of bona fide and spoofed scores, and the deviation of both."""
TARGETS = [SOURCE, (3.0, 1.0, 1.0), (1.0, 0.0, 1.0), (2.0, -1.0, 2.0)]


def draw(means_sd, size=SIZE, seed=0):
    bonafide, spoof, sd = means_sd
    rng = np.random.default_rng(seed)
    return rng.normal(bonafide, sd, size), rng.normal(spoof, sd, size // 2)


def rank(bonafide, spoof):
    return rank_trials(
        np.concatenate([bonafide, spoof]), np.arange(len(bonafide) + len(spoof)) < len(bonafide)
    )


def sample(ranking):
    """Every trial is a cluster."""
    bonafide, spoof = (np.arange(count) for count in (ranking.num_bonafide, ranking.num_spoof))
    return Sampling((Axis((bonafide, None)), Axis((None, spoof))))


@pytest.fixture(scope="module")
def points():
    return {point.method: point for point in set_operating_points(*draw(SOURCE), COSTS)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", [EER_POINT, COST_POINT, LOGISTIC_POINT, PAV_POINT])
def test_errors_on_a_target_are_those_of_the_closed_form(points, method, target):
    # The LLR of the source is (2 - 0) / 1**2 * (score - 1); its Bayes threshold is where its cost is least.
    threshold = 1.0 if method == EER_POINT else 1.0 + COSTS.threshold / 2
    bonafide, spoof, sd = target
    miss = stats.norm.cdf((threshold - bonafide) / sd)
    false_alarm = stats.norm.sf((threshold - spoof) / sd)
    ranking = rank(*draw(target, seed=1))
    found = estimate_decisions(points[method], ranking, COSTS, sample(ranking))
    # A threshold that is found by counting lies up to a few hundredths off; a line that is fitted, a few thousandths.
    allowed = 0.02 if method in (COST_POINT, PAV_POINT) else 0.01
    assert found["miss"].value == pytest.approx(miss, abs=allowed)
    assert found["false_alarm"].value == pytest.approx(false_alarm, abs=allowed)
    assert found["half_total_error"].value == pytest.approx((miss + false_alarm) / 2, abs=allowed)
    weights = COSTS.linear_cost()
    cost = (weights.c1 * miss + weights.c2 * false_alarm) / weights.normaliser
    assert found["act_dcf"].value == pytest.approx(cost, abs=3 * allowed)


@pytest.mark.parametrize("target", TARGETS)
def test_cllr_on_a_target_is_that_of_the_closed_form(points, target):
    bonafide, spoof, sd = target

    def expect(mean, sign):
        def weighed(score):
            return np.logaddexp(0, sign * 2 * (score - 1)) * stats.norm.pdf(score, mean, sd)

        return integrate.quad(weighed, mean - 9 * sd, mean + 9 * sd, points=[mean, 1.0])[0]

    expected = (expect(bonafide, -1) + expect(spoof, 1)) / (2 * math.log(2))
    ranking = rank(*draw(target, seed=2))
    found, interval = estimate_cllr(points[LOGISTIC_POINT].calibration, ranking, sample(ranking))
    assert found == pytest.approx(expected, abs=0.02)
    assert interval.low < found < interval.high
    assert interval.high - interval.low < 0.05


def test_intervals_hold_the_truth_as_often_as_they_say():
    target, threshold, size = (1.5, 0.2, 1.0), 1.0, 400
    point = set_operating_points(*draw(SOURCE), COSTS)[2]
    held = OperatingPoint(EER_POINT, threshold)
    miss, false_alarm = stats.norm.cdf(threshold - target[0]), stats.norm.sf(threshold - target[1])
    big = rank(*draw(target, 400_000, seed=3))
    cllr, _ = estimate_cllr(point.calibration, big, sample(big))
    hits = np.zeros(3)
    for seed in range(300):
        ranking = rank(*draw(target, size, seed=100 + seed))
        sampling = sample(ranking)
        found = estimate_decisions(held, ranking, COSTS, sampling)
        intervals = (
            found["miss"].interval(),
            found["half_total_error"].interval(),
            estimate_cllr(point.calibration, ranking, sampling)[1],
        )
        truths = (miss, (miss + false_alarm) / 2, cllr)
        hits += [item.low <= truth <= item.high for item, truth in zip(intervals, truths, strict=True)]
    # Four standard errors of 300 draws below 95 %.
    assert (hits / 300 > 0.9).all(), hits


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_points_of_scores_that_tie_are_the_best_of_all_thresholds(digits):
    rng = np.random.default_rng(digits)
    for _ in range(50):
        num_bonafide, num_spoof = rng.integers(3, 40, 2)
        bonafide = np.round(rng.normal(1, 1, num_bonafide), digits).astype(np.float32)
        spoof = np.round(rng.normal(0, 1, num_spoof), digits).astype(np.float32)
        costs = DetectionCosts(*rng.uniform(0.1, 0.9, 3))
        cuts = np.unique(np.concatenate([[-math.inf], bonafide, spoof]))
        if cuts.size < 3:
            continue
        misses = np.array([np.mean(bonafide <= cut) for cut in cuts])
        false_alarms = np.array([np.mean(spoof > cut) for cut in cuts])
        miss_weight = costs.miss_cost * (1 - costs.spoof_prior)
        false_alarm_weight = costs.false_alarm_cost * costs.spoof_prior
        totals = miss_weight * misses + false_alarm_weight * false_alarms
        ranking = rank(bonafide, spoof)
        points = set_operating_points(bonafide, spoof, costs)
        at_eer, at_cost = (estimate_decisions(point, ranking, costs, sample(ranking)) for point in points[:2])
        gap = abs(at_eer["miss"].value - at_eer["false_alarm"].value)
        assert gap == pytest.approx(np.abs(misses - false_alarms).min())
        least = totals.min() / min(miss_weight, false_alarm_weight)
        assert at_cost["act_dcf"].value == pytest.approx(least)


def test_errors_are_counted_and_a_cost_may_exceed_that_of_not_listening():
    point = OperatingPoint(EER_POINT, 0.5)
    ranking = rank(np.array([0.5, 0.6, 0.4]), np.array([0.7, 0.5]))
    found = estimate_decisions(point, ranking, DetectionCosts(0.5, 1, 1), sample(ranking))
    assert (found["miss"].value, found["false_alarm"].value) == pytest.approx((2 / 3, 1 / 2))
    assert found["act_dcf"].value == pytest.approx(2 / 3 + 1 / 2)
    assert found["act_dcf"].interval().high <= 2


def test_a_calibration_that_makes_equals_of_all_scores_still_has_a_cllr():
    point = set_operating_points([1.0, 2.0, 3.0], [0.0, 0.5, 1.5], COSTS)[3]
    ranking = rank(np.array([10.0, 11.0]), np.array([12.0, 13.0]))
    value, interval = estimate_cllr(point.calibration, ranking, sample(ranking))
    assert value > 1
    assert interval.low == interval.high == pytest.approx(value)


def test_decisions_and_cllr_are_never_surer_over_clusters_than_over_trials(points):
    wider = 0
    for seed in range(20):
        ranking = rank(*draw((2.0, 0.0, 1.0), 40, seed=seed))
        alone = sample(ranking)
        rng = np.random.default_rng(seed)
        speakers = tuple(rng.integers(8, size=count) for count in (ranking.num_bonafide, ranking.num_spoof))
        clustered = Sampling((Axis(speakers, "speakers"),), "8 speakers", {"speakers": 8}, trials=alone)
        point = points[LOGISTIC_POINT]
        pairs = [
            tuple(estimate_cllr(point.calibration, ranking, found)[1] for found in (clustered, alone)),
            *(
                tuple(kind.interval() for kind in reversed(found.kinds))
                for found in estimate_decisions(point, ranking, COSTS, clustered).values()
            ),
        ]
        for clusters, trials in pairs:
            assert clusters.over == "8 speakers"
            assert clusters.low <= trials.low <= trials.high <= clusters.high
            wider += clusters.high > trials.high
    assert wider
