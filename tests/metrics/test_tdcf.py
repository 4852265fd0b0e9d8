import numpy as np
import pytest

from sls.metrics.eer import compute_eer, det_curve
from sls.metrics.tdcf import AsvErrorRates, LinearCost, asv_error_rates, legacy_cost, revised_cost
from tests.metrics.naive import draw_scores, naive_min_cost

RATES = AsvErrorRates(miss=0.02, false_alarm=0.03, spoof_false_alarm=0.6, threshold=0.0)


def test_revised_cost_follows_the_evaluation_plan_of_2021():
    cost = revised_cost(RATES)
    c0 = 0.95 * 0.99 * 0.02 + 0.95 * 0.01 * 10 * 0.03
    assert (cost.c0, cost.c1, cost.c2) == pytest.approx((c0, 0.95 * 0.99 - c0, 0.05 * 10 * 0.6))
    assert cost.normaliser == pytest.approx(c0 + 0.3)


def test_legacy_cost_follows_the_evaluation_plan_of_2019():
    cost = legacy_cost(RATES)
    assert cost.c0 == 0
    assert cost.c1 == pytest.approx(0.95 * 0.99 * 0.98 - 0.95 * 0.01 * 10 * 0.03)
    assert cost.c2 == pytest.approx(0.3)
    assert cost.normaliser == cost.c2


@pytest.mark.parametrize("cost", [revised_cost(RATES), legacy_cost(RATES), LinearCost(0.1, 0.8, 0.9, 0.9)])
def test_minimum_is_that_of_trying_every_threshold(cost):
    bonafide, spoof = draw_scores(7, 60, 90)
    expected = naive_min_cost(list(bonafide), list(spoof), cost.c0, cost.c1, cost.c2) / cost.normaliser
    assert cost.least(det_curve(bonafide, spoof)) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_countermeasure_leaves_the_asv_cost_and_a_useless_one_costs_one():
    cost = revised_cost(RATES)
    perfect, useless = det_curve([2.0, 3.0], [0.0, 1.0]), det_curve([0.0, 1.0], [2.0, 3.0])
    assert cost.least(perfect) == pytest.approx(cost.c0 / cost.normaliser)
    assert cost.least(useless) == pytest.approx(1)
    assert legacy_cost(RATES).least(perfect) == 0


def test_asv_decides_at_its_own_eer_point():
    rng = np.random.default_rng(1)
    target, nontarget, spoof = rng.normal(3, 1, 400), rng.normal(0, 1, 900), rng.normal(2, 1, 500)
    rates = asv_error_rates(target, nontarget, spoof)
    assert rates.threshold == compute_eer(target, nontarget).threshold
    assert rates.miss == np.mean(target < rates.threshold)
    assert rates.false_alarm == np.mean(nontarget >= rates.threshold)
    assert rates.spoof_false_alarm == np.mean(spoof >= rates.threshold)
    assert asv_error_rates(target, nontarget, spoof, threshold=-99).miss == 0


def test_asv_accepts_a_score_at_its_threshold():
    rates = asv_error_rates([1.0, 2.0], [0.0, 1.0], [0.5, 1.0, 1.0, 0.0], threshold=1.0)
    assert (rates.miss, rates.false_alarm, rates.spoof_false_alarm) == (0, 0.5, 0.5)


def test_where_the_asv_lets_no_spoof_pass_no_countermeasure_does_better_than_none():
    rates = AsvErrorRates(miss=0.02, false_alarm=0.03, spoof_false_alarm=0.0, threshold=0.0)
    assert revised_cost(rates).least(det_curve([0.0, 3.0], [1.0, 2.0])) == pytest.approx(1)
    with pytest.raises(ValueError, match="meaningless"):
        legacy_cost(rates)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearCost(0, -0.1, 1, 1), "meaningless"),
        (lambda: asv_error_rates([1.0], [0.0], []), "no ASV spoofed"),
        (lambda: asv_error_rates([], [0.0], [1.0]), "no ASV target"),
    ],
)
def test_meaningless_costs_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "sign", "eer_percent", "legacy", "revised"),
    [
        ("air_softmax", 1, 5.0578, 0.120839, 0.175989),
        ("air_ocsoftmax", -1, 2.1780, 0.055817, 0.115047),
        ("derived_lfcc_gmm_hires", 1, 3.5056, 0.093445, 0.150314),
    ],
)
def test_asvspoof_2019_systems_have_the_published_figures(
    reference_dir, system, sign, eer_percent, legacy, revised
):
    root = reference_dir / "asvspoof2019"
    asv_rows = [
        line.split() for line in (root / "asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt").open()
    ]
    roles, asv = np.array([row[1] for row in asv_rows]), np.array([float(row[2]) for row in asv_rows])
    rates = asv_error_rates(*(asv[roles == role] for role in ("target", "nontarget", "spoof")))
    rows = [line.split() for line in (root / f"cm_scores/{system}.LA.eval.txt").open()]
    scores = sign * np.array([float(row[3]) for row in rows])
    is_bonafide = np.array([row[2] == "bonafide" for row in rows])
    bonafide, spoof = scores[is_bonafide], scores[~is_bonafide]
    assert 100 * compute_eer(bonafide, spoof).eer == pytest.approx(eer_percent, abs=6e-5)
    curve = det_curve(bonafide, spoof)
    assert revised_cost(rates).least(curve) == pytest.approx(revised, abs=2e-6)
    # The legacy figures of the other program differ in the sixth digit.
    assert legacy_cost(rates).least(curve) == pytest.approx(legacy, abs=5e-6)
