import math

import numpy as np
import pytest

from sls.metrics.dcf import DetectionCosts, compute_act_dcf, decide
from sls.metrics.eer import det_curve
from tests.metrics.naive import draw_scores, naive_min_cost


def test_threshold_is_minus_log_beta_of_the_evaluation_plan():
    assert DetectionCosts().threshold == pytest.approx(-math.log(1 * 0.95 / (10 * 0.05)))


def test_min_dcf_is_that_of_trying_every_threshold():
    bonafide, spoof = draw_scores(5, 50, 120)
    expected = naive_min_cost(list(bonafide), list(spoof), 0, 0.95, 0.5) / 0.5
    assert DetectionCosts().linear_cost().least(det_curve(bonafide, spoof)) == pytest.approx(
        expected, abs=1e-12
    )
    costs = DetectionCosts(spoof_prior=0.2, miss_cost=1, false_alarm_cost=3)
    expected = naive_min_cost(list(bonafide), list(spoof), 0, 0.8, 0.6) / 0.6
    assert costs.linear_cost().least(det_curve(bonafide, spoof)) == pytest.approx(expected, abs=1e-12)


def test_act_dcf_decides_at_the_bayes_threshold_and_accepts_a_score_at_it():
    costs = DetectionCosts(spoof_prior=0.5, miss_cost=1, false_alarm_cost=1)  # threshold 0
    assert compute_act_dcf([0.0, 1.0, -1.0, 2.0], [-1.0, 0.0], costs) == pytest.approx(1 / 4 + 1 / 2)


def test_trial_at_the_threshold_is_accepted_at_the_odds_of_the_costs():
    costs = DetectionCosts(spoof_prior=0.2, miss_cost=1, false_alarm_cost=3)
    found = decide(costs.threshold, costs)
    assert (found.llr, found.llr_threshold, found.decision) == (costs.threshold, costs.threshold, "bonafide")
    assert found.probability_bonafide == pytest.approx(3 / 4)  # a false alarm costs three times a miss
    assert decide(math.nextafter(costs.threshold, -math.inf), costs).decision == "spoof"


def test_act_dcf_is_never_below_min_dcf_and_near_it_for_true_ratios():
    rng = np.random.default_rng(2)
    bonafide, spoof = rng.normal(2, 2, 20_000), rng.normal(-2, 2, 20_000)  # their LLR is the score itself
    least, actual = (
        DetectionCosts().linear_cost().least(det_curve(bonafide, spoof)),
        compute_act_dcf(bonafide, spoof),
    )
    assert least <= actual < least + 0.02
    assert compute_act_dcf(bonafide + 5, spoof + 5) > least + 0.5


@pytest.mark.parametrize("values", [{"spoof_prior": 0}, {"spoof_prior": 1.0}, {"miss_cost": 0}])
def test_senseless_costs_raise(values):
    with pytest.raises(ValueError, match="expected"):
        DetectionCosts(**values)
