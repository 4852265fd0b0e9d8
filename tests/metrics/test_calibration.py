import json
import math

import numpy as np
import pytest

from sls.metrics.calibration import (
    OUTSIDE,
    UNPROVEN,
    LogisticCalibration,
    PavCalibration,
    calibration_from_dict,
    fit_logistic,
    fit_pav,
    warn_of_llr,
)
from sls.metrics.cllr import compute_cllr, compute_min_cllr
from tests.metrics.naive import draw_scores


def draw_ratios(seed: int, size: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are their own log-likelihood ratios: normal, means +-2, variance 4."""
    rng = np.random.default_rng(seed)
    return rng.normal(2, 2, size), rng.normal(-2, 2, size // 2)


def test_ratios_beyond_ten_thousand_to_one_and_scores_beyond_the_fit_are_warned_of():
    line = LogisticCalibration(2.0, 0.0, score_range=(-8.0, 6.0))
    expected = {-9.0: [OUTSIDE, UNPROVEN], -4.7: [UNPROVEN], -4.6: [], 4.6: [], 4.7: [UNPROVEN]}
    assert {score: warn_of_llr(line, score) for score in expected} == expected
    assert warn_of_llr(fit_pav([1.0, 2.0], [-1.0, 0.0]), 50.0) == [OUTSIDE]


def test_a_line_that_would_turn_scores_round_is_refused():
    with pytest.raises(ValueError, match=r"found .*bona fide \(slope -"):
        fit_logistic([-1.0, 0.0, -2.0], [1.0, 0.5, 2.0])


def test_cllr_of_no_information_is_one_bit_and_of_certainty_nothing():
    assert compute_cllr([1e-9, -1e-9], [1e-9, -1e-9]) == pytest.approx(1)
    assert compute_cllr([50.0, 60.0], [-50.0]) == pytest.approx(0, abs=1e-12)


def test_cllr_follows_its_definition():
    bonafide, spoof = np.array([1.0, -0.5]), np.array([-2.0, 0.3, 0.0])
    expected = (np.log2(1 + np.exp(-bonafide)).mean() + np.log2(1 + np.exp(spoof)).mean()) / 2
    assert compute_cllr(bonafide, spoof) == pytest.approx(expected)


def test_min_cllr_is_below_cllr_and_unmoved_by_any_increasing_map():
    bonafide, spoof = draw_ratios(1)
    least = compute_min_cllr(bonafide, spoof)
    assert least < compute_cllr(bonafide, spoof) < least + 0.01
    assert compute_min_cllr(3 * bonafide**3 + 1, 3 * spoof**3 + 1) == pytest.approx(least)
    assert compute_min_cllr([2.0, 3.0], [0.0, 1.0]) == 0
    assert compute_min_cllr([0.0, 1.0], [2.0, 3.0]) == pytest.approx(1)


def test_min_cllr_equals_a_pool_adjacent_violators_done_by_hand():
    bonafide, spoof = draw_scores(4, 40, 60)
    values = np.unique(np.concatenate([bonafide, spoof]))
    blocks = [[np.sum(bonafide == value), np.sum(spoof == value)] for value in values]
    place = 0
    while place < len(blocks) - 1:
        (b0, s0), (b1, s1) = blocks[place], blocks[place + 1]
        if b0 / (b0 + s0) >= b1 / (b1 + s1):
            blocks[place : place + 2] = [[b0 + b1, s0 + s1]]
            place = max(place - 1, 0)
        else:
            place += 1
    counts = np.array(blocks, dtype=float)
    with np.errstate(divide="ignore"):
        llrs = np.log(counts[:, 0] / 40) - np.log(counts[:, 1] / 60)
    costs = [
        np.sum(weights[weights > 0] * np.log2(1 + np.exp(sign * llrs[weights > 0]))) / weights.sum()
        for sign, weights in ((-1, counts[:, 0]), (1, counts[:, 1]))
    ]
    assert compute_min_cllr(bonafide, spoof) == pytest.approx(sum(costs) / 2)


def test_logistic_regression_undoes_a_linear_map_of_true_ratios():
    bonafide, spoof = draw_ratios(3)
    found = fit_logistic(bonafide * 0.5 - 7, spoof * 0.5 - 7)
    assert found.scale == pytest.approx(2, rel=0.05)
    assert found.offset == pytest.approx(14, rel=0.05)


def test_logistic_regression_is_where_the_gradient_vanishes():
    bonafide, spoof = draw_scores(6, 30, 50)
    found = fit_logistic(bonafide, spoof)

    def cost(scale: float, offset: float) -> float:
        return compute_cllr(scale * bonafide + offset, scale * spoof + offset)

    least = cost(found.scale, found.offset)
    for step in (-0.01, 0.01):
        assert cost(found.scale + step, found.offset) > least
        assert cost(found.scale, found.offset + step) > least


@pytest.mark.parametrize(
    ("bonafide", "spoof"),
    [
        ([1.0, 1, 0, 3], [0.0, -1, -5, 1]),
        ([2.0], [-13.0, 4, -3, -5, 9, 6, -2, 15, -3, -9]),
        ([-8.0, 15, -10, 26, -5], [0.0, 1, 0, 0, 0, 0, -2]),
    ],
)
def test_the_gradient_vanishes_where_whole_steps_would_go_too_far(bonafide, spoof):
    found = fit_logistic(bonafide, spoof)
    scores, is_bonafide = np.array(bonafide + spoof), np.arange(len(bonafide + spoof)) < len(bonafide)
    weights = np.where(is_bonafide, 0.5 / len(bonafide), 0.5 / len(spoof))
    odds = np.exp(found.apply(scores))
    wrong = weights * (odds / (1 + odds) - is_bonafide)
    assert wrong.sum() == pytest.approx(0, abs=1e-9)
    assert wrong @ scores == pytest.approx(0, abs=1e-4)  # the ridge holds the slope back by a little


def test_separable_scores_have_a_finite_calibration():
    for calibration in (fit_logistic([2.0, 3.0], [0.0, 1.0]), fit_pav([2.0, 3.0], [0.0, 1.0])):
        llrs = calibration.apply([0.0, 1.0, 2.0, 3.0])
        assert np.isfinite(llrs).all()
        assert llrs[1] < 0 < llrs[2]


@pytest.mark.parametrize(
    ("bonafide", "spoof", "ratios"),
    [
        # Ties at the top: the trials at 0 and 1 pool to 1 of 3 bona fide against 3 of 4 spoofed ones.
        ([0, 2, 2], [0, 0, 1, 2], {-9: 4 / 9, 0: 4 / 9, 1: 4 / 9, 2: 8 / 3, 9: 8 / 3}),
        # Ties at the bottom, whose LLR is their own; at the top, one trial of each class joins two bona fide ones.
        ([0, 1, 2, 2], [0, 0, 1], {-9: 3 / 8, 0: 3 / 8, 1: 3 / 4, 2: 9 / 4, 9: 9 / 4}),
        # Ties at both ends, and few bona fide trials among many spoofed ones: the scores tell nothing apart.
        ([0, 1], [0] * 10 + [1] * 10, {-9: 1, 0: 1, 1: 1, 9: 1}),
        ([0, 0], [1, 1, 1], {-9: 1, 0: 1, 1: 1, 9: 1}),
        # Complete separation: one trial of each class is added at either end.
        ([2, 3], [0, 1], {-9: 1 / 3, 0: 1 / 3, 1: 1 / 3, 1.5: 1, 2: 3, 3: 3, 9: 3}),
        ([2], [0, 0, 1], {0: 3 / 4, 1: 3 / 4, 2: 6}),
        # All tied but one.
        ([0, 0, 1], [0, 0], {-9: 2 / 3, 0: 2 / 3, 1: 4 / 3, 9: 4 / 3}),
        ([0, 0], [-1, 0, 0], {-9: 3 / 4, -1: 3 / 4, 0: 3 / 2, 9: 3 / 2}),
        # With the trials added to it, the highest score speaks no more for bona fide than those below: all pool.
        ([0, 0, 0, 2], [1], {-9: 5 / 8, 0: 5 / 8, 2: 5 / 8, 9: 5 / 8}),
    ],
)
def test_a_block_of_pav_has_its_own_ratio_at_both_ends_and_stays_finite(bonafide, spoof, ratios):
    calibration = fit_pav(bonafide, spoof)
    assert calibration.apply(list(ratios)) == pytest.approx(np.log(list(ratios.values())))
    assert calibration_from_dict(calibration.to_dict()) == calibration


@pytest.mark.parametrize("seed", range(20))
def test_every_ratio_of_pav_is_that_of_the_trials_that_have_it(seed):
    # Both classes have the lowest and the highest score.
    bonafide, spoof = (np.append(scores, [-4, 6]) for scores in draw_scores(seed, 20, 300, decimals=0))
    calibration = fit_pav(bonafide, spoof)
    llrs = [calibration.apply(scores) for scores in (bonafide, spoof)]
    for level in np.unique(np.concatenate(llrs)):
        shares = [np.isclose(part, level).mean() for part in llrs]
        assert level == pytest.approx(np.log(shares[0] / shares[1]))


def test_pav_is_monotone_keeps_the_order_of_classes_and_is_well_calibrated_on_fresh_scores():
    calibration = fit_pav(*(scores**3 for scores in draw_ratios(8)))
    bonafide, spoof = (scores**3 for scores in draw_ratios(9))
    grid = calibration.apply(np.linspace(-600, 600, 5_000))
    assert (np.diff(grid) >= 0).all()
    assert np.isfinite(grid).all()
    least = compute_min_cllr(bonafide, spoof)
    assert compute_cllr(calibration.apply(bonafide), calibration.apply(spoof)) < least + 0.01


@pytest.mark.parametrize(
    "calibration",
    [
        LogisticCalibration(2.5, -1.0),
        LogisticCalibration(2.5, -1.0, (-5.0, 0.5), "dev (2 bona fide and 3 spoofed trials)"),
        PavCalibration((0.0, 1.0), (-2.0, 3.0)),
    ],
)
def test_a_calibration_survives_its_dictionary(calibration):
    assert calibration_from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_a_calibration_knows_the_scores_of_its_fit_unless_it_is_older():
    for fit in (fit_logistic, fit_pav):
        assert fit([2.0, 0.5, 3.0], [0.0, 1.0, -4.0]).score_range == (-4, 3)
    older = calibration_from_dict({"method": "logistic", "scale": 2.5, "offset": -1})
    assert older == LogisticCalibration(2.5, -1.0, None)


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"method": "logistic"},
        {"method": "pav", "scores": [1, 0], "llrs": [0, 1]},
        {"method": "magic"},
    ],
)
def test_anything_else_is_no_calibration(content):
    with pytest.raises(ValueError, match="not a calibration"):
        calibration_from_dict(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"method": "logistic", "scale": -2, "offset": 1}, "found scale -2, expected one above 0"),
        ({"method": "logistic", "scale": 0, "offset": 1}, "found scale 0, expected one above 0"),
        (
            {"method": "logistic", "scale": math.nan, "offset": 1},
            "found scale nan and offset 1, expected finite",
        ),
        (
            {"method": "logistic", "scale": 1, "offset": math.inf},
            "found scale 1 and offset inf, expected finite",
        ),
        ({"method": "logistic", "scale": 10**400, "offset": 1}, "found method 'logistic'"),
        *(
            ({"method": "logistic", "scale": 1, "offset": 1, "score_range": ends}, "found score_range ")
            for ends in ([1, 0], [1, 1], [0, math.inf], [math.nan, 1], [1], [0, 1, 2])
        ),
        ({"method": "logistic", "scale": 1, "offset": 1, "score_range": 5}, "found method 'logistic'"),
        ({"method": "logistic", "scale": 1, "offset": 1, "fitted_on": "x" * 301}, "found fitted_on 'x"),
        ({"method": "pav", "scores": [0, 1], "llrs": [0, 1], "fitted_on": "dev\n"}, "found fitted_on "),
        ({"method": "pav", "scores": [0, 1], "llrs": [0, 1], "fitted_on": 5}, "found fitted_on "),
        ({"method": "pav", "scores": [0, 1, 2], "llrs": [0, 2, 1]}, "found llrs that descend"),
        ({"method": "pav", "scores": [0, 1], "llrs": [0, math.nan]}, "found llrs that are NaN or infinite"),
        ({"method": "pav", "scores": [0, math.inf], "llrs": [0, 1]}, "found scores that are NaN or infinite"),
        ({"method": "pav", "scores": [0, 1], "llrs": [0]}, "found 2 scores and 1 llrs"),
    ],
)
def test_numbers_that_would_turn_scores_round_or_lose_them_are_named(content, reason):
    with pytest.raises(ValueError, match=f"^not a calibration: {reason}"):
        calibration_from_dict(content)


def test_a_single_class_raises():
    with pytest.raises(ValueError, match="no bona fide"):
        fit_pav([], [0.0])


@pytest.mark.parametrize(
    "content",
    [
        {"method": "logistic", "scale": 1e308, "offset": 0},
        {"method": "logistic", "scale": 1e308, "offset": 0, "score_range": [0, 1e-300]},
        {"method": "logistic", "scale": 1e50, "offset": 0, "score_range": [-5, 0]},
        {"method": "logistic", "scale": 1, "offset": -1e300},
        {"method": "logistic", "scale": 1, "offset": 0, "score_range": [-1e308, 1e308]},
        {"method": "logistic", "scale": 10**400, "offset": 0},
        {"method": "pav", "scores": [0, 1], "llrs": [-1e308, 1e308]},
        {"method": "pav", "scores": [0, 1e200], "llrs": [-1, 1]},
    ],
)
def test_numbers_that_no_scores_lead_to_are_refused(content):
    with pytest.raises(ValueError, match="not a calibration: found"):
        calibration_from_dict(content)


@pytest.mark.parametrize("factor", [1e-60, 1e-7, 1.0, 1e7, 1e90])
def test_a_fit_on_scores_of_any_size_can_be_read_again(factor: float):
    calibration = fit_logistic(*(factor * scores for scores in draw_ratios(4, 500)))
    assert calibration_from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
