from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sls.metrics.dcf import DetectionCosts
from sls.metrics.eer import Ranking, compute_eer, rank_trials
from sls.metrics.intervals import Estimate, estimate_eer, estimate_min_cost, find_optimism
from sls.metrics.paired import adjust_by_holm, compare_pair
from sls.metrics.sampling import Axis, Sampling
from sls.metrics.tdcf import AsvErrorRates, revised_cost
from tests.metrics.naive import draw_scores

TDCF = revised_cost(AsvErrorRates(0.02, 0.03, 0.6, 0.0))
DCF = DetectionCosts().linear_cost()


def make_ranking(seed: int, num_bonafide: int, num_spoof: int, decimals: int = 9) -> Ranking:
    bonafide, spoof = draw_scores(seed, num_bonafide, num_spoof, decimals=decimals)
    return rank_trials(np.concatenate([bonafide, spoof]), np.arange(num_bonafide + num_spoof) < num_bonafide)


def over_trials(ranking: Ranking) -> Sampling:
    """Trials numbered as the caller does, so that systems match."""
    bonafide, spoof = ranking.trials[ranking.is_bonafide], ranking.trials[~ranking.is_bonafide]
    return Sampling((Axis((bonafide, None)), Axis((None, spoof))))


def deviation(estimate: Estimate) -> float:
    return float(np.sqrt(estimate.deviations @ estimate.deviations))


def resample(ranking: Ranking, rng: np.random.Generator, count: int, *others: Ranking) -> np.ndarray:
    """The EER of resamples that are written out, of each system, `(count, systems)`."""
    systems = [ranking, *others]
    scores = np.empty((len(systems), ranking.scores.size))
    for row, system in enumerate(systems):
        scores[row, system.trials] = system.scores
    is_bonafide = np.empty(ranking.scores.size, dtype=bool)
    is_bonafide[ranking.trials] = ranking.is_bonafide
    bonafide, spoof = np.flatnonzero(is_bonafide), np.flatnonzero(~is_bonafide)
    values = []
    for _ in range(count):
        drawn = rng.choice(bonafide, bonafide.size), rng.choice(spoof, spoof.size)
        values.append([compute_eer(row[drawn[0]], row[drawn[1]]).eer for row in scores])
    return np.array(values)


@pytest.mark.parametrize("seed", range(3))
def test_the_eer_varies_as_its_resamples_do(seed):
    ranking = make_ranking(seed, 400, 1_500)
    drawn = resample(ranking, np.random.default_rng(seed), 800)[:, 0]
    estimate = estimate_eer(ranking, over_trials(ranking))
    assert deviation(estimate) == pytest.approx(drawn.std(), rel=0.12)
    interval = estimate.interval()
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.4 * drawn.std())


def test_the_difference_of_two_eers_varies_as_its_resamples_do():
    first = make_ranking(1, 400, 1_500)
    noise = np.random.default_rng(5).normal(size=1_900)
    scores = np.empty(1_900)
    scores[first.trials] = first.scores
    second = rank_trials(scores + 0.5 * noise, np.arange(1_900) < 400)
    drawn = resample(first, np.random.default_rng(2), 800, second)
    interval = compare_pair(
        *(estimate_eer(ranking, over_trials(ranking)) for ranking in (first, second))
    ).interval
    spread = (drawn[:, 0] - drawn[:, 1]).std()
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(spread, rel=0.15)
    assert (interval.low + interval.high) / 2 == pytest.approx(compute_of(first) - compute_of(second))


def compute_of(ranking: Ranking) -> float:
    return compute_eer(ranking.scores[ranking.is_bonafide], ranking.scores[~ranking.is_bonafide]).eer


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_point_figures_are_those_of_the_metrics_whatever_ties(decimals):
    ranking = make_ranking(3, 90, 200, decimals)
    assert estimate_eer(ranking, over_trials(ranking)).value == compute_of(ranking)
    curve = ranking.curve()
    for cost in (TDCF, DCF):
        found = estimate_min_cost(ranking, cost, over_trials(ranking), 0.01)
        assert found.value == cost.of_rates(curve.frr, curve.far).min()
        assert found.interval().low <= found.value <= found.interval().high


def test_trials_that_tie_weigh_alike_whatever_their_order():
    scores, labels = np.array([0.0, 1, 1, 1, 1, 2]), np.array([False, True, True, False, False, True])
    ranking = rank_trials(scores, labels)
    moved = estimate_eer(ranking, over_trials(ranking)).deviations[:6]
    assert moved[1] == pytest.approx(moved[2])


def test_ends_are_exact_where_trials_are_independent():
    """At a threshold that rejects no bona fide trial the cost rests on one rate alone."""
    scores = np.concatenate([np.full(50, 9.0), np.arange(200) < 190]).astype(float)
    scores[50:][np.arange(200) >= 190] = 10.0
    ranking = rank_trials(scores, np.arange(250) < 50)
    found = estimate_min_cost(ranking, DCF, over_trials(ranking), 0.0)
    (_, miss), (_, accept) = found.terms
    assert (miss.value, accept.value) == (0, 0.05)
    # n - 1 in the place of n, and t in that of z: with 200 trials nearly nothing.
    expected = stats.binomtest(10, 200).proportion_ci(method="exact")
    below, above = accept.distances(0.95)
    assert (0.05 - below, 0.05 + above) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_no_error_has_an_interval_all_the_same():
    scores = np.concatenate([np.linspace(2, 3, 300), np.linspace(0, 1, 500)])
    ranking = rank_trials(scores, np.arange(800) < 300)
    interval = estimate_eer(ranking, over_trials(ranking)).interval()
    assert interval.low == 0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 300), rel=0.05)


def test_fewer_clusters_make_wider_intervals():
    ranking = make_ranking(4, 300, 900)

    def width(num_clusters: int) -> float:
        codes = ranking.trials % num_clusters
        axis = Axis((codes[ranking.is_bonafide], codes[~ranking.is_bonafide]), "speakers")
        sampling = Sampling((axis,), f"{num_clusters} speakers", {"speakers": num_clusters})
        interval = estimate_eer(ranking, sampling).interval()
        assert interval.is_clustered
        return interval.high - interval.low

    few, some, many = (np.mean([width(count + more) for more in range(4)]) for count in (3, 12, 100))
    assert few > some > many


def test_the_interval_of_a_least_cost_is_raised_by_its_optimism():
    ranking = make_ranking(6, 80, 300)
    optimism = find_optimism(ranking, TDCF, np.random.default_rng(1))
    assert 0 < optimism < 0.1
    assert optimism == find_optimism(ranking, TDCF, np.random.default_rng(1))
    assert optimism == pytest.approx(find_optimism(ranking, TDCF, np.random.default_rng(2)), rel=0.3)
    raised, plain = (
        estimate_min_cost(ranking, TDCF, over_trials(ranking), found).interval() for found in (optimism, 0.0)
    )
    assert (raised.low, raised.high) == (plain.low, pytest.approx(plain.high + optimism))


def test_what_the_asv_accepts_adds_to_the_variance_of_a_cost():
    ranking = make_ranking(7, 200, 300)
    sampling = over_trials(ranking)
    plain = estimate_min_cost(ranking, TDCF, sampling, 0.0)
    other = np.zeros(plain.deviations.size)
    other[0] = 0.5
    added = [estimate.distances(0.95)[1] ** 2 for estimate in (plain, replace(plain, by_asv=other))]
    quantile = stats.t.ppf(0.975, sampling.freedom[1])
    cross = 2 * float(plain.deviations @ other) + 0.25
    assert added[1] - added[0] == pytest.approx(quantile**2 * cross)


@pytest.mark.parametrize("errors", [0, 1, 5, 50])
def test_few_trials_of_one_class_widen_the_eer_whatever_the_other_shows(errors):
    """A hundred bona fide trials without an error say no more than a rate of 3.7 %."""
    spoof = np.concatenate([np.linspace(0, 1, 10_000 - errors), np.linspace(5, 6, errors)])
    scores = np.concatenate([np.linspace(2, 6, 100), spoof])
    ranking = rank_trials(scores, np.arange(scores.size) < 100)
    found = estimate_eer(ranking, over_trials(ranking))
    assert found.value < 0.02
    assert found.interval().high > 0.01


def test_half_the_errors_do_not_make_an_interval_many_times_narrower():
    def width(num_errors: int) -> float:
        scores = np.concatenate([np.linspace(2, 3, 100), np.linspace(0, 1, 500), np.full(num_errors, 2.5)])
        ranking = rank_trials(scores, np.arange(scores.size) < 100)
        interval = estimate_eer(ranking, over_trials(ranking)).interval()
        return interval.high - interval.low

    widths = [width(errors) for errors in (0, 1, 2, 4)]
    assert max(widths) < 3 * min(widths)


def test_a_system_is_no_different_from_itself():
    ranking = make_ranking(8, 60, 90)
    for estimate in (
        estimate_eer(ranking, over_trials(ranking)),
        estimate_min_cost(ranking, TDCF, over_trials(ranking), 0.0),
    ):
        tested = compare_pair(estimate, estimate)
        assert (tested.interval.low, tested.interval.high, tested.p_value) == (0, 0, 1)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.4, 1.0])
def test_an_interval_leaves_out_zero_where_the_p_value_is_small(shift):
    ranking = make_ranking(9, 150, 400)
    scores = np.empty(550)
    scores[ranking.trials] = ranking.scores
    other = rank_trials(
        scores - shift * (np.arange(550) < 150) + 0.1 * np.sin(np.arange(550)), np.arange(550) < 150
    )
    for estimate in (estimate_eer, lambda *found: estimate_min_cost(found[0], TDCF, found[1], 0.0)):
        pair = [estimate(one, over_trials(one)) for one in (ranking, other)]
        for level in (0.5, 0.9, 0.95, 0.999):
            tested = compare_pair(*pair, level)
            assert tested.p_value is not None
            assert (tested.interval.low > 0 or tested.interval.high < 0) == (tested.p_value < 1 - level)


def test_errors_too_few_to_tell_are_not_taken_for_certain():
    """One system without an error, another with two of 300: chance alone does that."""
    labels = np.arange(800) < 300
    clean = np.concatenate([np.linspace(2, 3, 300), np.linspace(0, 1, 500)])
    spoilt = clean.copy()
    spoilt[[10, 20]] = 0.5
    tested = compare_pair(
        *(
            estimate_min_cost(ranking, TDCF, over_trials(ranking), 0.0)
            for ranking in (rank_trials(clean, labels), rank_trials(spoilt, labels))
        )
    )
    assert tested.p_value is not None
    assert tested.p_value > 0.05


def test_certainty_needs_more_than_clusters_that_are_all_alike():
    """Two systems, perfect and reversed in every one of five trials: no deviation says how alike trials are."""
    labels = np.array([True, True, False, False, False])
    perfect, reversed_ = rank_trials(labels * 1.0, labels), rank_trials(labels * -1.0, labels)
    tested = compare_pair(*(estimate_eer(ranking, over_trials(ranking)) for ranking in (perfect, reversed_)))
    assert tested.p_value is not None
    assert tested.p_value > 0.001
    assert tested.interval.low == -1 < tested.interval.high
    assert tested.interval.high > -0.5


def test_holm_adjusts_the_smallest_most():
    assert adjust_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_by_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_by_holm([0.2]) == [0.2]


def test_no_difference_between_other_decisions_is_certain():
    """Bona fide trials lie far below and far above all spoofed ones: which of these are accepted weighs nothing."""
    is_bonafide = np.arange(160) < 60
    scores = np.concatenate([np.linspace(-9, -8, 10), np.linspace(8, 9, 50), np.linspace(-1, 1, 100)])
    other = np.concatenate([scores[:60], np.random.default_rng(1).permutation(scores[60:])])
    pair = []
    for found in (scores, other):
        ranking = rank_trials(found, is_bonafide)
        pair.append(estimate_eer(ranking, over_trials(ranking)))
    assert [weight for weight, _ in pair[0].terms] == [1, 0]
    tested = compare_pair(*pair)
    assert tested.interval.low < -0.01
    assert tested.interval.high > 0.01
    same = compare_pair(pair[0], pair[0]).interval
    assert (same.low, same.high) == (0, 0)
