"""Recipes of several trainings: against Student's and Welch's tests where seeds alone matter, and where trials do."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sls.metrics import paired
from sls.metrics.intervals import Estimate, Rate
from sls.metrics.paired import MIN_SEEDS, SeededEstimate, compare_pair, compare_pairs
from sls.metrics.sampling import Axis, Sampling

NUM_CLUSTERS = 20
CODES = np.arange(NUM_CLUSTERS)
SAMPLING = Sampling((Axis((CODES, CODES)),))
STILL = np.zeros(NUM_CLUSTERS)
SEEDS = tuple("12345")


def make_estimate(value: float, moved: np.ndarray = STILL) -> Estimate:
    """A number of so many trials that no error is too rare to be seen."""
    rate = Rate(value, moved, num_trials=10**12, fewest=NUM_CLUSTERS, freedom=NUM_CLUSTERS - 1)
    return Estimate(value, ((1.0, rate),), SAMPLING)


def make_recipe(
    values: np.ndarray, seeds: tuple[str, ...] = (), moved: np.ndarray | None = None
) -> SeededEstimate:
    each = np.zeros((len(values), NUM_CLUSTERS)) if moved is None else moved
    return SeededEstimate(tuple(map(make_estimate, values.tolist(), each)), seeds)


def draw(seed: int, size: int = len(SEEDS), sd: float = 0.01) -> np.ndarray:
    return 0.1 + sd * np.random.default_rng(seed).normal(size=size)


def test_the_same_seeds_are_compared_in_pairs_whatever_their_order():
    first, second = draw(1), draw(2)
    expected = stats.ttest_rel(first, second)
    order = [3, 1, 0, 4, 2]
    shuffled = make_recipe(second[order], tuple(SEEDS[place] for place in order))
    tested = compare_pair(make_recipe(first, SEEDS), shuffled)
    assert isinstance(tested, paired.TestedOverSeeds)
    assert tested.is_paired
    assert tested.p_value == pytest.approx(expected.pvalue, rel=1e-4)
    interval = expected.confidence_interval()
    assert (tested.interval.low, tested.interval.high) == pytest.approx(interval, abs=1e-6)
    assert tested.seed_share == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("seeds", [(), tuple("67890")])
def test_other_or_unknown_seeds_are_compared_as_welch_does(seeds):
    first, second = draw(1), draw(2, sd=0.03)
    expected = stats.ttest_ind(first, second, equal_var=False)
    tested = compare_pair(make_recipe(first, SEEDS), make_recipe(second, seeds))
    assert not tested.is_paired
    assert tested.p_value == pytest.approx(expected.pvalue, rel=1e-3)
    assert tested.num_seeds == (5, 5)


def test_what_trials_do_to_all_seeds_is_added_and_what_they_do_to_each_is_not_counted_twice():
    rng = np.random.default_rng(3)
    common, own = 0.002 * rng.normal(size=NUM_CLUSTERS), 0.0005 * rng.normal(size=(5, NUM_CLUSTERS))
    own -= own.mean(axis=0)
    first, second = make_recipe(draw(1), SEEDS, common + own), make_recipe(draw(2), SEEDS)
    tested = compare_pair(first, second)
    by_seeds = stats.ttest_rel(draw(1), draw(2)).confidence_interval()
    of_seeds = (by_seeds.high - by_seeds.low) / 2
    of_each = float((own**2).sum()) / (5 * 4)
    of_all = float(common @ common) - of_each
    half = np.hypot(of_seeds, stats.t.ppf(0.975, NUM_CLUSTERS - 1) * np.sqrt(of_all))
    assert (tested.interval.high - tested.interval.low) / 2 == pytest.approx(half, rel=1e-4)
    spread = (draw(1) - draw(2)).var(ddof=1) / 5
    assert tested.seed_share == pytest.approx((spread - of_each) / (spread + of_all), rel=1e-3)
    level = 1 - tested.p_value
    at_level = compare_pair(first, second, level).interval
    assert min(abs(at_level.low), abs(at_level.high)) < 1e-9


@pytest.mark.parametrize("count", [1, 2, 3, MIN_SEEDS])
def test_with_few_seeds_nothing_is_concluded_however_large_the_difference(count):
    far = make_recipe(0.3 + draw(1, count))
    (tested,) = compare_pairs([far, make_recipe(draw(2))])
    assert tested.num_seeds == (count, 5)
    if count < MIN_SEEDS:
        assert tested.conclusion == f"not enough seeds ({count}) to tell"
        assert (tested.p_value, tested.p_value_holm) == (None, None)
    else:
        assert tested.conclusion == "distinguishable"
    assert tested.interval.low < far.value - 0.1 < tested.interval.high


def test_an_only_training_is_taken_to_vary_as_the_other_recipe_does():
    tested = compare_pair(make_estimate(0.1), make_recipe(draw(2)))
    half = stats.t.ppf(0.975, 4) * draw(2).std(ddof=1) * np.sqrt(1 / 5 + 1)
    assert (tested.interval.high - tested.interval.low) / 2 == pytest.approx(half, rel=1e-4)


def test_single_trainings_beside_seeds_are_compared_as_before_and_count_among_the_pairs():
    rng = np.random.default_rng(5)
    alone = [make_estimate(value, 0.001 * rng.normal(size=NUM_CLUSTERS)) for value in (0.10, 0.11)]
    expected = compare_pair(*alone)
    both, *with_seeds = compare_pairs([*alone, make_recipe(draw(2))])
    assert not isinstance(both, paired.TestedOverSeeds)
    assert both == replace(expected, p_value_holm=both.p_value_holm)
    assert [tested.shortage for tested in with_seeds] == ["not enough seeds (1) to tell"] * 2
    assert both.p_value_holm == both.p_value  # no other pair has a verdict


def test_recipes_whose_trainings_are_all_alike_are_the_same():
    same = make_recipe(np.full(5, 0.1), SEEDS)
    tested = compare_pair(same, same)
    assert (tested.p_value, tested.seed_share) == (1.0, None)
    assert tested.interval.low == pytest.approx(0, abs=1e-6)
