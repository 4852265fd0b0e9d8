"""Which trials belong together, by what the key knows, and the words in which it is told."""

from dataclasses import replace

import numpy as np
import pytest

from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.comparison import SeedOf, compare
from sls.engine.evaluation.evaluation import EvaluationPlan, evaluate
from sls.engine.evaluation.groups import ATTACK, SPEAKER, make_factor, sample
from sls.metrics.eer import rank_trials
from sls.metrics.intervals import Interval
from sls.metrics.sampling import Sampling
from tests.engine.evaluation.keys import make_asv, make_joined

NUM_BONAFIDE, NUM_SPOOF = 120, 240
LABELS = np.arange(NUM_BONAFIDE + NUM_SPOOF) < NUM_BONAFIDE


def make_systems(**fields: list[str] | np.ndarray):
    """Two systems of nearly the same scores; the columns of the key are given for all trials."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=LABELS.size) + 2.5 * LABELS
    columns = {name: np.asarray(column, dtype=object) for name, column in fields.items()}
    first = make_joined(scores, LABELS.astype(int), columns)
    return {"one": first, "two": replace(first, scores=scores + 0.3 * rng.normal(size=LABELS.size))}


def turns(letter: str, bonafide: int, spoof: int) -> list[str]:
    """Names that take turns, so many in each class; none at all where the number is 0."""
    found = []
    for size, number in ((NUM_BONAFIDE, bonafide), (NUM_SPOOF, spoof)):
        found += [f"{letter}{place % number}" if number else "-" for place in range(size)]
    return found


def sample_key(**fields) -> Sampling:
    joined = make_systems(**fields)["one"]
    columns = joined.key.fields
    factors = {name: make_factor(name, columns.categories(name), LABELS) for name in columns}
    return sample(rank_trials(joined.scores, LABELS), factors.get(SPEAKER), factors.get(ATTACK))


@pytest.mark.parametrize(
    ("speakers", "attacks", "over", "clusters"),
    [
        ((12, 12), 8, "12 speakers and 8 attacks", {"speakers": 12, "attacks": 8}),
        ((12, 12), 0, "12 speakers", {"speakers": 12}),
        ((0, 0), 8, "bona fide trials and 8 attacks", {"attacks": 8}),
        (
            (20, 12),
            8,
            "20 bona fide speakers, 12 spoofed speakers and 8 attacks",
            {"bona fide speakers": 20, "spoofed speakers": 12, "attacks": 8},
        ),
        ((20, 0), 8, "20 bona fide speakers and 8 attacks", {"bona fide speakers": 20, "attacks": 8}),
        ((20, 0), 0, "20 bona fide speakers and spoofed trials", {"bona fide speakers": 20}),
        ((0, 12), 0, "bona fide trials and 12 spoofed speakers", {"spoofed speakers": 12}),
        (
            (0, 12),
            8,
            "bona fide trials, 12 spoofed speakers and 8 attacks",
            {"spoofed speakers": 12, "attacks": 8},
        ),
    ],
)
def test_each_class_is_sampled_by_what_is_known_of_it(speakers, attacks, over, clusters):
    found = sample_key(speaker=turns("S", *speakers), attack=turns("A", 0, attacks))
    assert (found.over, found.clusters) == (over, clusters)
    assert found.shortage == ""


def test_a_key_that_knows_nothing_is_sampled_by_trials():
    assert sample_key().over == "trials"
    assert sample_key(codec=turns("C", 2, 2)).over == "trials"
    assert sample_key(speaker=turns("S", 0, 0), attack=turns("A", 0, 0)).over == "trials"


def test_unknown_speakers_among_known_ones_count_as_one():
    speakers = turns("S", 10, 10)
    speakers[::7] = ["-"] * len(speakers[::7])
    assert sample_key(speaker=speakers).clusters == {"speakers": 11}


@pytest.mark.parametrize(
    ("speakers", "attacks", "shortage"),
    [
        ((2, 2), 13, "not enough speakers (2) to tell"),
        ((5, 5), 13, "not enough speakers (5) to tell"),
        ((30, 30), 2, "not enough attacks (2) to tell"),
        ((30, 30), 1, "not enough attacks (1) to tell"),
        ((2, 30), 13, "not enough bona fide speakers (2) to tell"),
        ((1, 1), 0, "not enough speakers (1) to tell"),
        ((0, 0), 4, "not enough attacks (4) to tell"),
    ],
)
def test_few_clusters_give_intervals_and_no_verdict(speakers, attacks, shortage):
    systems = make_systems(speaker=turns("S", *speakers), attack=turns("A", 0, attacks))
    (difference,) = compare(systems, EvaluationPlan("LA")).differences
    assert difference.tested is difference.over_clusters
    assert (difference.tested.p_value, difference.tested.conclusion) == (None, shortage)
    assert difference.verdict.endswith(f"): {shortage}")
    assert "p =" not in difference.verdict
    assert f"(over {difference.tested.interval.over})" in difference.verdict
    assert difference.tested.interval.low <= difference.value <= difference.tested.interval.high


def test_an_only_speaker_is_counted_and_its_trials_are_sampled():
    found = sample_key(speaker=turns("S", 1, 1))
    assert (found.over, found.clusters) == ("trials of 1 speaker", {"speakers": 1})


def test_an_only_attack_leaves_speakers_to_be_sampled():
    found = sample_key(speaker=turns("S", 9, 9), attack=turns("A", 0, 1))
    assert found.over == "9 speakers and 1 attack"
    assert found.freedom[1] == pytest.approx(8, abs=0.2)


def test_trials_alone_are_said_to_be_taken_as_independent():
    (difference,) = compare(make_systems(), EvaluationPlan("LA")).differences
    assert difference.over_clusters is None
    assert difference.tested.interval.over == "trials"
    assert "independent" in difference.verdict


def test_speakers_of_very_unequal_sizes_give_no_verdict():
    speakers = np.where(np.arange(LABELS.size) % 11 == 0, turns("S", 30, 30), "S0")
    (difference,) = compare(make_systems(speaker=speakers), EvaluationPlan("LA")).differences
    assert difference.tested.p_value is None
    assert "1.0 equal ones" in difference.tested.conclusion
    assert -1 <= difference.tested.interval.low <= difference.tested.interval.high <= 1


def test_an_evaluation_has_an_interval_over_attacks_where_speakers_are_not_known():
    found = evaluate(
        make_systems(attack=turns("A", 0, 13))["one"], EvaluationPlan("LA", metrics=("eer", "min_dcf"))
    )
    for name in ("eer", "min_dcf"):
        assert [interval.over for interval in found.measure(name).intervals] == [
            "trials",
            "bona fide trials and 13 attacks",
        ]


SIZES = {
    "few errors": (24, 36, 4, 3),
    "many speakers": (60, 90, 30, 6),
    "speakers alone": (40, 60, 8, 0),
    "attacks alone": (40, 60, 0, 8),
    "one speaker and one attack": (40, 60, 1, 1),
}
"""Bona fide and spoofed trials, speakers and attacks; 0 where the key does not know them."""


def draw_systems(size: tuple[int, int, int, int], seed: int, decimals: int, count: int) -> list[JoinedScores]:
    """Systems that make the same errors, but in other trials: each class has its scores in another order."""
    num_bonafide, num_spoof, *numbers = size
    rng = np.random.default_rng(seed)
    labels = np.arange(num_bonafide + num_spoof) < num_bonafide
    names = [
        np.array(
            [f"{letter}{code}" if number else "-" for code in rng.integers(max(number, 1), size=labels.size)]
        )
        for letter, number in zip("SA", numbers, strict=True)
    ]
    columns = {"speaker": names[0].astype(object), "attack": np.where(labels, "-", names[1].astype(object))}
    scores = np.round(rng.normal(size=labels.size) + rng.choice([1, 3, 6]) * labels, decimals)
    first = make_joined(scores, labels.astype(int), columns)
    orders = [
        np.concatenate([rng.permutation(num_bonafide), num_bonafide + rng.permutation(num_spoof)])
        for _ in range(count - 1)
    ]
    return [first, *(replace(first, scores=scores[order]) for order in orders)]


def holds(clusters: Interval, trials: Interval) -> bool:
    return clusters.low <= trials.low and clusters.high >= trials.high


@pytest.mark.parametrize("decimals", [0, 9])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_clusters_are_never_surer_than_their_trials(size, decimals):
    plan = EvaluationPlan("LA", metrics=("eer", "min_tdcf", "min_dcf"), asv=make_asv(size=300))
    for seed in range(3):
        first, second, third = draw_systems(size, seed, decimals, 3)
        third = replace(third, scores=third.scores + 0.5 * first.scores)
        found = compare({"one": first, "two": second, "three": third}, plan)
        for evaluation in found.evaluations:
            measures = [measure for measure in evaluation.measures if len(measure.intervals) == 2]
            assert len(measures) == (3 if min(size[2:]) != 1 else 0)
            for measure in measures:
                assert holds(measure.interval(is_clustered=True), measure.interval())
        for difference in found.differences:
            clusters, trials = difference.over_clusters, difference.over_trials
            assert holds(clusters.interval, trials.interval)
            assert clusters.p_value is None or clusters.p_value >= trials.p_value
        same = found.differences[0]
        assert same.value == 0
        assert same.over_clusters.interval.low < 0 < same.over_clusters.interval.high


@pytest.mark.parametrize("num_seeds", [2, 4])
def test_recipes_are_never_surer_over_clusters_than_over_trials(num_seeds):
    for seed in range(3):
        drawn = draw_systems(SIZES["speakers alone"], seed, 9, 2 * num_seeds)
        systems = {f"{place % 2} {place // 2}": joined for place, joined in enumerate(drawn)}
        seeds = {name: SeedOf(*name.split()) for name in systems}
        (difference,) = compare(systems, EvaluationPlan("LA"), seeds=seeds).differences
        clusters, trials = difference.over_clusters, difference.over_trials
        assert holds(clusters.interval, trials.interval)
        assert clusters.interval.low < 0 < clusters.interval.high
        assert 0 <= clusters.seed_share <= 1


def test_errors_that_cancel_within_a_speaker_leave_a_difference_as_wide_as_over_trials():
    speakers, attacks = turns("S", 10, 10), turns("A", 0, 8)
    scores = np.where(LABELS, 1.0, 0.0) + 0.01 * np.random.default_rng(1).random(LABELS.size)
    one, two = scores.copy(), scores.copy()
    # Each system rejects a bona fide and accepts a spoofed trial; of the same speaker and attack, but not the same.
    for system, (rejected, accepted) in ((one, (0, 120)), (two, (10, 160))):
        system[rejected], system[accepted] = 0.5, 0.6
    columns = {"speaker": np.array(speakers, dtype=object), "attack": np.array(attacks, dtype=object)}
    first = make_joined(one, LABELS.astype(int), columns)
    (difference,) = compare(
        {"one": first, "two": replace(first, scores=two)}, EvaluationPlan("LA")
    ).differences
    clusters, trials = difference.over_clusters, difference.over_trials
    assert difference.value == 0
    assert (clusters.interval.low, clusters.interval.high) == (trials.interval.low, trials.interval.high)
    assert clusters.interval.high > 0.005
    assert (clusters.p_value, clusters.conclusion) == (1, "not distinguishable")
