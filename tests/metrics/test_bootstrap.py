"""The fast bootstraps against ones that draw, sort and count every resample."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sls.metrics import clusters, paired
from sls.metrics.bootstrap import (
    adjust_by_holm,
    least_resamples,
    percentile_interval,
    resample_eer,
    two_sided_p_value,
)
from sls.metrics.clusters import Clusters, resample_clusters
from sls.metrics.dcf import DetectionCosts
from sls.metrics.det import compute_eer, det_curve
from sls.metrics.paired import resample_trials
from sls.metrics.ranking import Ranking, rank_trials
from sls.metrics.tdcf import AsvErrorRates, LinearCost, TandemCosts
from sls.metrics.weighted import Totals, eer_of_weights, min_cost_of_weights
from tests.metrics.naive import draw_scores, exact_eer, naive_min_cost

COST = TandemCosts().linear_cost(AsvErrorRates(0.02, 0.03, 0.6, 0.0))


def make_ranking(seed: int, num_bonafide: int, num_spoof: int, decimals: int = 1) -> Ranking:
    bonafide, spoof = draw_scores(seed, num_bonafide, num_spoof, decimals=decimals)
    labels = np.arange(num_bonafide + num_spoof) < num_bonafide
    return rank_trials(np.concatenate([bonafide, spoof]), labels)


def resample_plainly(ranking: Ranking, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws each class with replacement, and computes the EER of what was drawn."""
    bonafide, spoof = ranking.scores[ranking.is_bonafide], ranking.scores[~ranking.is_bonafide]
    drawn = ((rng.choice(bonafide, bonafide.size), rng.choice(spoof, spoof.size)) for _ in range(count))
    return np.array([plain_eer(*pair) for pair in drawn])


def plain_eer(bonafide: np.ndarray, spoof: np.ndarray) -> float:
    """The EER in whole numbers: of two steps that are equally close the first one counts."""
    curve = det_curve(bonafide, spoof)
    misses, accepted = np.round(curve.frr * bonafide.size), np.round(curve.far * spoof.size)
    index = np.argmin(np.abs(misses * spoof.size - accepted * bonafide.size))
    return float(curve.frr[index] + curve.far[index]) / 2


def largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    """The Kolmogorov-Smirnov statistic of two samples."""
    first, second = np.round(first, 9), np.round(second, 9)  # the same fraction may be rounded in two ways
    grid = np.union1d(first, second)
    shares = [
        np.searchsorted(np.sort(values), grid, side="right") / values.size for values in (first, second)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def write_out(ranking: Ranking, weights: np.ndarray) -> tuple[list[float], list[float]]:
    """Returns the scores of both classes, each as often as it was drawn."""
    repeats = weights.astype(int)
    return tuple(
        np.repeat(ranking.scores[chosen], repeats[chosen]).tolist()
        for chosen in (ranking.is_bonafide, ~ranking.is_bonafide)
    )


@pytest.mark.parametrize("seed", range(30))
def test_weighted_rates_are_those_of_trials_written_out(seed):
    ranking = make_ranking(seed, 15 + seed, 25)
    weights = np.random.default_rng(seed).integers(0, 4, ranking.trials.size).astype(float)
    bonafide, spoof = write_out(ranking, weights)
    zero = np.zeros(1)
    totals = Totals(np.array([float(len(bonafide))]), np.array([float(len(spoof))]), zero, zero)
    found = eer_of_weights(weights[None], ranking.is_bonafide, totals)[0]
    assert found == pytest.approx(exact_eer(bonafide, spoof), abs=1e-12)
    cost = min_cost_of_weights(weights[None], ranking.is_bonafide, totals, COST)[0] * COST.normaliser
    assert cost == pytest.approx(naive_min_cost(bonafide, spoof, COST.c0, COST.c1, COST.c2))


@pytest.mark.parametrize("seed", range(10))
def test_some_of_the_trials_do_with_the_totals_below_them(seed):
    ranking = make_ranking(seed, 30, 40)
    is_bonafide = ranking.is_bonafide
    weights = np.random.default_rng(seed).integers(0, 4, 70).astype(float)
    written = write_out(ranking, weights)
    num_bonafide, num_spoof = map(len, written)
    rates = [
        (weights[:rank] @ is_bonafide[:rank] / num_bonafide, weights[rank:] @ ~is_bonafide[rank:] / num_spoof)
        for rank in range(71)
    ]
    crossing = next(rank for rank, (miss, accept) in enumerate(rates) if miss >= accept)
    low, high = crossing - 4, crossing + 4
    counts = (num_bonafide, num_spoof, weights[:low] @ is_bonafide[:low], weights[:low] @ ~is_bonafide[:low])
    totals = Totals(*(np.array([float(count)]) for count in counts))
    part = (weights[None, low:high], is_bonafide[low:high], totals)
    assert eer_of_weights(*part)[0] == pytest.approx(exact_eer(*written), abs=1e-12)
    costs = [COST.c0 + COST.c1 * miss + COST.c2 * accept for miss, accept in rates[low : high + 1]]
    assert min_cost_of_weights(*part, COST)[0] * COST.normaliser == pytest.approx(min(costs))


@pytest.mark.parametrize(("num_bonafide", "num_spoof"), [(40, 60), (3, 200), (200, 7)])
def test_halving_has_the_distribution_of_drawing_trials(num_bonafide, num_spoof):
    ranking = make_ranking(11, num_bonafide, num_spoof)
    fast = resample_eer(ranking, np.random.default_rng(1), 4_000)
    plain = resample_plainly(ranking, np.random.default_rng(2), 1_500)
    assert largest_gap(fast, plain) < 0.06  # 1 in 1,000 by chance: 1.95 * sqrt(1/4000 + 1/1500) = 0.059


def test_halving_has_the_chances_of_all_draws_of_few_trials():
    bonafide, spoof = [1.0, 3.0, 4.0], [0.0, 2.0, 5.0]
    ranking = rank_trials(bonafide + spoof, np.arange(6) < 3)
    every = itertools.product(itertools.product(bonafide, repeat=3), itertools.product(spoof, repeat=3))
    expected = Counter(round(plain_eer(*map(np.array, pair)), 9) for pair in every)
    found = Counter(np.round(resample_eer(ranking, np.random.default_rng(1), 20_000), 9).tolist())
    assert set(found) == set(expected)
    for eer, count in expected.items():
        chance = count / 3**6
        assert abs(found[eer] / 20_000 - chance) < 4 * np.sqrt(chance * (1 - chance) / 20_000)


@pytest.mark.parametrize("margin_sd", [8.0, 0.5])
def test_zones_have_the_distribution_of_drawing_trials_even_when_too_narrow(margin_sd):
    ranking = make_ranking(12, 60, 300, decimals=4)
    fast = resample_trials([ranking], np.random.default_rng(1), 4_000, margin_sd=margin_sd)[:, 0]
    plain = resample_plainly(ranking, np.random.default_rng(2), 1_500)
    assert largest_gap(fast, plain) < 0.06


def test_least_costs_have_the_distribution_of_drawing_trials():
    ranking = make_ranking(13, 80, 200, decimals=4)
    cost = DetectionCosts().linear_cost()
    fast = resample_trials([ranking], np.random.default_rng(1), 4_000, cost)[:, 0]
    rng = np.random.default_rng(2)
    bonafide, spoof = ranking.scores[ranking.is_bonafide], ranking.scores[~ranking.is_bonafide]
    plain = [
        naive_cost(rng.choice(bonafide, bonafide.size), rng.choice(spoof, spoof.size), cost)
        for _ in range(1_500)
    ]
    assert largest_gap(fast, np.array(plain)) < 0.06


def naive_cost(bonafide: np.ndarray, spoof: np.ndarray, cost: LinearCost) -> float:
    thresholds = np.concatenate([[-np.inf], np.union1d(bonafide, spoof)])
    miss = np.searchsorted(np.sort(bonafide), thresholds, side="right") / bonafide.size
    accept = 1 - np.searchsorted(np.sort(spoof), thresholds, side="right") / spoof.size
    return float((cost.c0 + cost.c1 * miss + cost.c2 * accept).min() / cost.normaliser)


def test_a_system_paired_with_itself_never_differs():
    ranking = make_ranking(14, 100, 150, decimals=4)
    drawn = resample_trials([ranking, ranking], np.random.default_rng(0), 200)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])


@pytest.mark.parametrize("cost", [None, COST], ids=["eer", "cost"])
def test_a_zone_is_a_small_part_of_many_trials_and_holds_every_crossing(monkeypatch, cost):
    ranking = make_ranking(17, 4_000, 8_000, decimals=6)
    zone = paired._find_zone(ranking, cost, paired.MARGIN_SD)
    assert zone.high - zone.low < 12_000 / 3
    monkeypatch.delattr(paired, "_expand")  # what looks for a crossing outside the zone
    assert np.isfinite(resample_trials([ranking], np.random.default_rng(0), 300, cost)).all()


@pytest.mark.parametrize("max_drawn", [1, 500])
def test_resamples_come_in_parts_where_memory_is_small(monkeypatch, max_drawn):
    monkeypatch.setattr(paired, "MAX_DRAWN", max_drawn)
    ranking = make_ranking(16, 40, 60)
    drawn = resample_trials([ranking, ranking], np.random.default_rng(0), 301)
    assert drawn.shape == (301, 2)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    assert largest_gap(drawn[:, 0], resample_plainly(ranking, np.random.default_rng(1), 1_500)) < 0.125


def test_pairing_keeps_trials_together():
    rng = np.random.default_rng(15)
    labels = np.arange(900) < 300
    scores = rng.normal(size=900) + 2 * labels
    rankings = [rank_trials(scores + noise * rng.normal(size=900), labels) for noise in (0.3, 0.3)]
    drawn = resample_trials(rankings, rng, 2_000)
    apart = [resample_trials([ranking], rng, 2_000)[:, 0] for ranking in rankings]
    for place in range(2):
        assert largest_gap(drawn[:, place], apart[place]) < 0.065
    assert np.std(drawn[:, 0] - drawn[:, 1]) < 0.8 * np.std(apart[0] - apart[1])


def draw_clustered(seed: int, num_speakers: int = 12, num_attacks: int = 5, each: int = 6):
    """Scores with an effect of each speaker and of each attack, and the codes of both."""
    rng = np.random.default_rng(seed)
    of_speaker, of_attack = rng.normal(0, 0.7, num_speakers), rng.normal(0, 0.9, num_attacks)
    speakers = np.repeat(np.arange(num_speakers), each * (num_attacks + 2))
    attacks = np.tile(np.repeat(np.arange(num_attacks + 2), each), num_speakers)
    labels = attacks >= num_attacks
    attacks = np.where(labels, 0, attacks)
    scores = rng.normal(size=labels.size) + 2 * labels + of_speaker[speakers]
    scores -= np.where(labels, 0, of_attack[attacks])
    return scores, labels, Clusters(speakers, attacks)


@pytest.mark.parametrize("cost", [None, COST], ids=["eer", "cost"])
def test_clustered_resamples_are_those_of_drawing_speakers_and_attacks(cost):
    scores, labels, clusters = draw_clustered(1)
    ranking = rank_trials(scores, labels)
    fast = resample_clusters([ranking], clusters, np.random.default_rng(3), 4_000, cost)[:, 0]
    rng, plain = np.random.default_rng(4), []
    for _ in range(1_000):
        of_speaker = np.bincount(rng.integers(12, size=12), minlength=12)[clusters.speakers]
        of_attack = np.bincount(rng.integers(5, size=5), minlength=5)[clusters.attacks]
        weights = np.where(labels, of_speaker, of_speaker * of_attack)[ranking.trials]
        bonafide, spoof = (np.array(values) for values in write_out(ranking, weights))
        plain.append(plain_eer(bonafide, spoof) if cost is None else naive_cost(bonafide, spoof, cost))
    assert largest_gap(fast, np.array(plain)) < 0.07


@pytest.mark.parametrize("cost", [None, COST], ids=["eer", "cost"])
@pytest.mark.parametrize("num_attacks", [1, 5])
def test_clustered_resamples_are_those_of_their_draws_written_out(cost, num_attacks):
    scores, labels, groups = draw_clustered(3, num_attacks=num_attacks)
    ranking = rank_trials(scores, labels)
    found = resample_clusters([ranking], groups, np.random.default_rng(6), 40, cost)[:, 0]
    draws = clusters._draw(groups, labels, np.random.default_rng(6), 40)
    for value, weights in zip(found, draws.weights[draws.groups].T, strict=True):
        bonafide, spoof = (np.array(part) for part in write_out(ranking, weights[ranking.trials]))
        expected = plain_eer(bonafide, spoof) if cost is None else naive_cost(bonafide, spoof, cost)
        assert value == pytest.approx(expected, abs=1e-12)


def test_resamples_without_a_class_are_no_numbers_and_too_many_of_them_give_no_interval():
    labels = np.array([True, True, False, False])
    ranking = rank_trials(np.array([3.0, 2.0, 1.0, 0.0]), labels)
    clusters = Clusters(np.array([0, 0, 1, 1]))  # bona fide and spoofed speakers are apart
    drawn = resample_clusters([ranking], clusters, np.random.default_rng(0), 500)[:, 0]
    assert 0.4 < np.mean(np.isnan(drawn)) < 0.6
    assert percentile_interval(drawn, "speakers") is None


def test_one_speaker_cannot_be_resampled():
    ranking = rank_trials(np.array([1.0, 0.0]), np.array([True, False]))
    with pytest.raises(ValueError, match="found 1"):
        resample_clusters([ranking], Clusters(np.zeros(2, dtype=int)), np.random.default_rng(0), 10)


@pytest.mark.parametrize("total", [2**24 - 1, 2**24 + 1])
def test_counts_are_exact_whatever_their_size(total):
    below = np.array([[0.0, 0.0], [total - 2.0, 1.0], [total - 1.0, 1.0]])
    weights = np.ones((2, 1))
    assert clusters._multiply(below, weights).ravel().tolist() == [0, total - 1, total]


def test_the_same_seed_gives_the_same_resamples():
    scores, labels, clusters = draw_clustered(2)
    ranking = rank_trials(scores, labels)
    for draw in (
        lambda rng: resample_eer(ranking, rng, 50),
        lambda rng: resample_trials([ranking], rng, 50, COST),
        lambda rng: resample_clusters([ranking], clusters, rng, 50),
    ):
        np.testing.assert_array_equal(draw(np.random.default_rng(9)), draw(np.random.default_rng(9)))


def test_spread_follows_the_normal_approximation_for_many_trials():
    # Two unit normals 2 apart: EER = Phi(-1), and the threshold's noise cancels where the slopes are equal.
    rng = np.random.default_rng(5)
    size = 40_000
    scores = np.concatenate([rng.normal(2, 1, size), rng.normal(0, 1, size)])
    drawn = resample_eer(rank_trials(scores, np.arange(2 * size) < size), rng, 2_000)
    eer = 0.158655
    assert drawn.mean() == pytest.approx(eer, abs=4e-3)
    assert drawn.std() == pytest.approx(np.sqrt(eer * (1 - eer) / size / 2), rel=0.1)


def test_percentile_interval_takes_the_quantiles():
    interval = percentile_interval(np.arange(1, 1_000) / 1_000, "trials")
    assert (interval.low, interval.high) == pytest.approx((0.025, 0.975))
    assert (interval.over, interval.num_resamples, interval.level) == ("trials", 999, 0.95)


@pytest.mark.parametrize(("num_missing", "is_given"), [(0, True), (100, True), (101, False)])
def test_a_tenth_of_the_resamples_may_lack_a_class(num_missing, is_given):
    drawn = np.random.default_rng(0).random(1_000)
    drawn[:num_missing] = np.nan
    interval = percentile_interval(drawn, "speakers")
    assert (interval is not None) == is_given
    assert interval is None or interval.num_resamples == 1_000 - num_missing


@given(
    num_below=st.integers(0, 200),
    num_equal=st.integers(0, 3),
    num_above=st.integers(0, 200),
    level=st.sampled_from([0.9, 0.95, 0.99]),
)
def test_an_interval_leaves_out_zero_exactly_where_the_p_value_says_so(
    num_below, num_equal, num_above, level
):
    drawn = np.concatenate([np.full(num_below, -1.0), np.zeros(num_equal), np.full(num_above, 1.0)])
    interval = percentile_interval(drawn, "trials", level)
    assert (interval is None) == (drawn.size < least_resamples(level))
    if interval is not None:
        leaves_out_zero = interval.low > 0 or interval.high < 0
        assert leaves_out_zero == (two_sided_p_value(drawn) <= 1 - level + 1e-9)


def test_p_value_is_two_sided_and_never_zero():
    assert two_sided_p_value(np.full(999, 0.5)) == pytest.approx(2 / 1_000)
    assert two_sided_p_value(np.zeros(999)) == 1
    half = np.concatenate([np.full(50, -1.0), np.full(949, 1.0)])
    assert two_sided_p_value(half) == pytest.approx(2 * 51 / 1_000)


def test_holm_adjusts_like_the_example_by_hand():
    assert adjust_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_by_holm([0.5]) == [0.5]


@pytest.mark.slow
def test_intervals_over_trials_cover_the_truth_where_trials_are_independent():
    """150 corpora of 150 + 300 trials: the true EER of two normals 2 apart is Phi(-1)."""
    hits = 0
    for seed in range(150):
        rng = np.random.default_rng([20, seed])
        scores = np.concatenate([rng.normal(2, 1, 150), rng.normal(0, 1, 300)])
        drawn = resample_eer(rank_trials(scores, np.arange(450) < 150), rng, 400)
        interval = percentile_interval(drawn, "trials")
        hits += interval.low <= 0.158655 <= interval.high
    assert 0.89 <= hits / 150 <= 1.0  # 95 % would be 142.5, with a standard deviation of 2.7


@pytest.mark.slow
def test_only_clustered_intervals_cover_the_truth_where_speakers_and_attacks_differ():
    """The truth is that of endlessly many speakers and attacks; trials alone are far too sure of themselves."""
    of_population, num_corpora = [], 100
    big = [draw_clustered(1_000 + seed, 60, 25, 2) for seed in range(12)]
    for scores, labels, _ in big:
        of_population.append(compute_eer(scores[labels], scores[~labels]).eer)
    truth = float(np.mean(of_population))
    hits = {"trials": 0, "clusters": 0}
    for seed in range(num_corpora):
        scores, labels, clusters = draw_clustered(2_000 + seed)
        ranking, rng = rank_trials(scores, labels), np.random.default_rng([21, seed])
        for name, drawn in (
            ("trials", resample_eer(ranking, rng, 400)),
            ("clusters", resample_clusters([ranking], clusters, rng, 400)[:, 0]),
        ):
            interval = percentile_interval(drawn, name)
            hits[name] += interval.low <= truth <= interval.high
    assert hits["trials"] / num_corpora < 0.7
    assert hits["clusters"] / num_corpora > 0.85


@pytest.mark.slow
def test_paired_p_values_are_uniform_enough_where_systems_are_equal():
    """Two systems that differ by noise alone are called different at the 5 % level about once in 20."""
    rejected = 0
    for seed in range(120):
        rng = np.random.default_rng([22, seed])
        labels = np.arange(600) < 200
        shared = rng.normal(size=600) + 2 * labels
        rankings = [rank_trials(shared + 0.5 * rng.normal(size=600), labels) for _ in range(2)]
        drawn = resample_trials(rankings, rng, 300)
        rejected += two_sided_p_value(drawn[:, 0] - drawn[:, 1]) < 0.05
    assert rejected / 120 < 0.125
