import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest

from sls.data.corpora.tracks import load_tracks
from sls.data.tables.columns import Columns
from sls.data.tables.score_files import join_scores, read_scores
from sls.engine.evaluation import comparison_results
from sls.engine.evaluation.comparison import SeedOf, compare
from sls.engine.evaluation.comparison_results import INDEPENDENT, Difference, say_verdict
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.metrics.intervals import Interval
from sls.metrics.paired import adjust_by_holm
from tests.engine.evaluation.keys import ATTACKS, ENOUGH_ATTACKS, make_asv, make_corpus


def make_systems(noise: float = 0.0, shift: float = 0.0, attacks: tuple[str, ...] = ENOUGH_ATTACKS):
    """Two systems on the same trials; the second has noise added, and its bona fide scores moved down."""
    first = make_corpus(attacks=attacks)
    rng = np.random.default_rng(3)
    scores = first.scores + noise * rng.normal(size=len(first)) - shift * (first.key.labels == 1)
    return {"one": first, "two": replace(first, scores=scores)}


def test_a_clear_difference_is_distinguishable_over_trials_and_over_clusters():
    found = compare(make_systems(shift=0.8), EvaluationPlan("LA"))
    (difference,) = found.differences
    evaluations = found.evaluations
    assert difference.value == evaluations[0].eer - evaluations[1].eer
    assert difference.value < 0
    for tested in (difference.over_trials, difference.over_clusters):
        assert tested.conclusion == "distinguishable"
        assert tested.interval.low <= difference.value <= tested.interval.high < 0
        assert tested.p_value == tested.p_value_holm < 0.001
    assert difference.tested is difference.over_clusters
    assert difference.over_trials.interval.over == "trials"
    assert difference.over_clusters.interval.over == "10 speakers and 8 attacks"
    assert difference.over_clusters.interval.clusters == {"speakers": 10, "attacks": 8}
    assert found.verdicts[0].startswith("one is better than two on LA by ")
    assert found.verdicts[0].endswith("(over 10 speakers and 8 attacks, p < 0.0001): distinguishable")


def test_a_little_noise_is_not_distinguishable():
    (difference,) = compare(make_systems(noise=0.3), EvaluationPlan("LA")).differences
    assert difference.value != 0
    for tested in (difference.over_trials, difference.over_clusters):
        assert tested.conclusion == "not distinguishable"
        assert 0.05 < tested.p_value < 1
        assert tested.interval.low < 0 < tested.interval.high
    assert difference.verdict.endswith(": not distinguishable")


def test_with_too_few_attacks_nothing_is_concluded_however_large_the_difference():
    (difference,) = compare(make_systems(shift=0.8, attacks=ATTACKS), EvaluationPlan("LA")).differences
    assert difference.over_trials.conclusion == "distinguishable"
    tested = difference.over_clusters
    assert (tested.p_value, tested.p_value_holm) == (None, None)
    assert tested.conclusion == tested.shortage == "not enough attacks (3) to tell"
    assert tested.interval.low <= difference.value <= tested.interval.high
    assert difference.tested is tested
    assert difference.verdict.endswith("(over 10 speakers and 3 attacks): not enough attacks (3) to tell")


def test_without_speakers_a_difference_rests_on_trials_alone_and_the_verdict_says_so():
    rows = np.arange(0, 1_200, 10)
    systems = {
        name: replace(joined.select(rows), key=replace(joined.key.select(rows), fields=Columns({})))
        for name, joined in make_systems(noise=0.5).items()
    }
    (difference,) = compare(systems, EvaluationPlan("X")).differences
    assert difference.over_clusters is None
    assert difference.tested is difference.over_trials
    interval = difference.over_trials.interval
    assert (interval.over, interval.level, interval.clusters) == ("trials", 0.95, {})
    assert difference.verdict.endswith(f": {difference.over_trials.conclusion}; {INDEPENDENT}")


def test_a_system_compared_with_itself_is_the_same():
    found = compare(make_systems(), EvaluationPlan("LA"))
    (difference,) = found.differences
    assert difference.value == 0
    for tested in (difference.over_trials, difference.over_clusters):
        assert tested.p_value == tested.p_value_holm == 1
        assert tested.interval.low == tested.interval.high == 0
        assert tested.conclusion == "not distinguishable"
    assert "the same score" in difference.verdict
    assert "distinguishable" not in difference.verdict
    assert all(found.spread == 0 for found in found.disagreements)


def test_other_scores_of_the_same_eer_are_two_systems():
    one, two = make_systems().values()
    (difference,) = compare(
        {"one": one, "two": replace(two, scores=2 * two.scores)}, EvaluationPlan("LA")
    ).differences
    assert "have the same EER" in difference.verdict
    assert difference.verdict.endswith("not distinguishable")


def test_the_verdict_is_the_sentence_of_the_example():
    over_trials = comparison_results.Tested(Interval(-0.0005, -0.0003, 0.95, "trials"), 0.01, 0.01)
    interval = Interval(-0.0012, 0.0004, 0.95, "48 speakers and 13 attacks", {"speakers": 48, "attacks": 13})
    tested = comparison_results.Tested(interval, 0.31, 0.31)
    difference = Difference("v2", "v1", "eer", -0.0004, "fraction", over_trials, tested)
    assert say_verdict(difference, "LA") == (
        "v2 is better than v1 on LA by 0.04 points; the 95 % interval of the difference is [-0.04, 0.12] points "
        "(over 48 speakers and 13 attacks, p = 0.31): not distinguishable"
    )
    swapped = replace(difference, first="v1", second="v2", value=0.0004)
    swapped = replace(
        swapped, over_clusters=replace(tested, interval=replace(interval, low=-0.0004, high=0.0012))
    )
    assert say_verdict(swapped, "LA") == say_verdict(difference, "LA")


def test_only_common_trials_are_compared_and_it_is_said(caplog):
    systems = make_systems(noise=0.5)
    rng = np.random.default_rng(0)
    order = rng.permutation(1_200)[:1_000]
    systems["two"] = systems["two"].select(order)
    systems["one"] = systems["one"].select(np.arange(1_150))
    with caplog.at_level(logging.WARNING):
        found = compare(systems, EvaluationPlan("LA"))
    expected = np.sum(order < 1_150)
    assert found.num_common == expected
    (note,) = found.notes
    assert re.search(rf"\b{expected} trials\b.*one 1150, two 1000\b", note)
    # Whoever shows the result shows its notes: logged as well, they would be read twice.
    assert note not in caplog.text
    # The order of a system's rows does not matter.
    aligned = dict(systems, two=systems["two"].select(np.argsort(order)))
    assert compare(aligned, EvaluationPlan("LA")).differences == found.differences


def test_systems_that_cannot_be_compared_raise():
    systems = make_systems()
    with pytest.raises(ValueError, match="two or more"):
        compare({"one": systems["one"]}, EvaluationPlan("LA"))
    apart = {
        "one": systems["one"].select(np.arange(600)),
        "two": systems["two"].select(np.arange(600, 1_200)),
    }
    with pytest.raises(ValueError, match="in common"):
        compare(apart, EvaluationPlan("LA"))
    two = systems["two"]
    flipped = replace(two, key=replace(two.key, labels=(1 - two.key.labels).astype(np.int8)))
    with pytest.raises(ValueError, match="other labels"):
        compare({"one": systems["one"], "two": flipped}, EvaluationPlan("LA"))


def test_min_tdcf_is_compared_where_it_is_earned():
    found = compare(
        make_systems(shift=0.8), EvaluationPlan("LA", asv=make_asv(), metrics=("eer", "min_tdcf"))
    )
    assert [difference.measure for difference in found.differences] == ["eer", "min_tdcf"]
    difference = found.differences[1]
    assert difference.unit == "cost"
    assert difference.value == found.evaluations[0].value("min_tdcf") - found.evaluations[1].value("min_tdcf")
    assert difference.over_trials.interval.low <= difference.value <= difference.over_trials.interval.high
    assert "in min t-DCF" in difference.verdict


def test_three_systems_give_three_pairs_with_adjusted_p_values():
    systems = make_systems(noise=0.3)
    systems["three"] = replace(systems["one"], scores=systems["one"].scores ** 3)
    found = compare(systems, EvaluationPlan("LA"))
    pairs = [(difference.first, difference.second) for difference in found.differences]
    assert pairs == [("one", "two"), ("one", "three"), ("two", "three")]
    for kind in ("over_trials", "over_clusters"):
        tested = [getattr(difference, kind) for difference in found.differences]
        adjusted = adjust_by_holm([each.p_value for each in tested])
        assert [each.p_value_holm for each in tested] == adjusted
        assert adjusted[0] > tested[0].p_value
    same = found.differences[1]  # a cube keeps the ranks
    assert same.value == 0


@pytest.mark.parametrize("num_systems", [3, 8])
def test_a_clearly_better_system_is_told_from_every_other_however_many_there_are(num_systems):
    best = make_corpus(attacks=ENOUGH_ATTACKS)
    rng = np.random.default_rng(5)
    worse = best.scores - 0.8 * (best.key.labels == 1)
    systems = {"best": best}
    for number in range(1, num_systems):
        noise = 0.1 * rng.normal(size=len(best))
        systems[f"worse {number}"] = replace(best, scores=worse + noise)
    found = compare(systems, EvaluationPlan("LA"))
    of_best = [difference for difference in found.differences if difference.first == "best"]
    assert len(of_best) == num_systems - 1
    for difference in of_best:
        assert difference.over_trials.conclusion == "distinguishable"
        assert difference.over_clusters.conclusion == "distinguishable"
    assert found.notes == ()


def test_the_trial_on_which_systems_disagree_most_comes_first():
    systems = make_systems()
    scores = systems["two"].scores.copy()
    lowest = int(np.argmin(scores))
    scores[lowest] = 99.0
    systems["two"] = replace(systems["two"], scores=scores)
    found = compare(systems, EvaluationPlan("LA"), num_disagreements=3)
    first = found.disagreements[0]
    assert len(found.disagreements) == 3
    assert first.trial == f"T_{lowest:05d}"
    assert first.ranks == {"one": 0.0, "two": 1.0}
    assert first.fields["speaker"].startswith("S")


def test_a_comparison_survives_json():
    found = compare(make_systems(noise=0.2), EvaluationPlan("LA", subset="eval"))
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    (difference,) = content["differences"]
    assert difference["over_trials"]["interval"]["over"] == "trials"
    assert difference["over_clusters"]["interval"]["clusters"] == {"speakers": 10, "attacks": 8}
    assert difference["over_clusters"]["p_value"] == found.differences[0].over_clusters.p_value
    assert difference["over_clusters"]["shortage"] == ""
    assert difference["verdict"] == found.verdicts[0]
    assert [evaluation["system"] for evaluation in content["evaluations"]] == ["one", "two"]
    assert content["evaluations"][0]["subset"] == "eval"


def test_in_the_wild_tells_the_published_systems_apart(reference_dir):
    root = reference_dir / "in_the_wild"
    key = load_tracks()["In-the-Wild"].key(root)
    systems = {
        name: join_scores(read_scores(root / f"scores_{name}.txt"), key) for name in ("paper", "v1", "v2")
    }
    found = compare(systems, EvaluationPlan("In-the-Wild"))
    assert [round(100 * evaluation.eer, 2) for evaluation in found.evaluations] == [7.46, 7.84, 12.67]
    assert all(difference.over_trials.conclusion == "distinguishable" for difference in found.differences)
    assert all(difference.over_clusters is None for difference in found.differences)
    assert all(verdict.endswith(INDEPENDENT) for verdict in found.verdicts)
    assert found.verdicts[0].startswith("paper is better than v1 on In-the-Wild by 0.37 points")


@pytest.mark.parametrize(
    ("p_value", "adjusted", "conclusion"),
    [
        (0.05, 0.05, "distinguishable"),
        (0.06, 0.06, "not distinguishable"),
        (0.03, 0.09, "distinguishable as a pair alone, not among all pairs"),
    ],
)
def test_the_verdict_follows_the_p_value_also_when_it_is_adjusted(p_value, adjusted, conclusion):
    interval = Interval(-0.02, -0.01, 0.95, "trials")
    clustered = replace(interval, over="9 speakers", clusters={"speakers": 9})
    other = comparison_results.Tested(interval, 0.5, 0.5)
    for over_trials, over_clusters, ending in (
        (comparison_results.Tested(interval, p_value, adjusted), None, f": {conclusion}; {INDEPENDENT}"),
        (other, comparison_results.Tested(clustered, p_value, adjusted), f": {conclusion}"),
    ):
        difference = Difference("a", "b", "eer", -0.015, "fraction", over_trials, over_clusters)
        assert say_verdict(difference, "LA").endswith(ending)


def make_seeds(num_seeds: int, shift: float, spread: float = 0.1):
    """Trainings of two recipes by several seeds, of which those of the second are worse by a shift."""
    corpus, rng = make_corpus(attacks=ENOUGH_ATTACKS), np.random.default_rng(7)
    systems, seeds = {}, {}
    for recipe, moved in (("one", 0.0), ("two", shift)):
        for seed in range(num_seeds):
            worse = moved + spread * rng.normal()
            systems[f"{recipe} {seed}"] = replace(corpus, scores=corpus.scores - worse * corpus.key.labels)
            seeds[f"{recipe} {seed}"] = SeedOf(recipe, str(seed))
    return systems, seeds


def test_recipes_are_compared_over_their_seeds_and_the_verdict_says_whose_the_uncertainty_is():
    systems, seeds = make_seeds(5, shift=0.8)
    found = compare(systems, EvaluationPlan("LA"), seeds=seeds)
    assert [evaluation.system for evaluation in found.evaluations] == list(systems)
    (difference,) = found.differences
    eers = np.array([evaluation.eer for evaluation in found.evaluations]).reshape(2, 5)
    assert difference.value == pytest.approx(eers[0].mean() - eers[1].mean())
    assert (difference.first, difference.second) == ("one", "two")
    tested = difference.tested
    assert (tested.num_seeds, tested.is_paired, tested.conclusion) == ((5, 5), True, "distinguishable")
    share = round(100 * tested.seed_share)
    assert 0 < share < 100
    assert "(over 10 speakers and 8 attacks and 5 seeds, the same of both, p" in difference.verdict
    told = f": distinguishable; of its variance {share} % is the seeds' and {100 - share} % the trials'"
    assert difference.verdict.endswith(told)
    assert json.loads(json.dumps(found.to_dict()))["differences"][0]["over_clusters"]["num_seeds"] == [5, 5]


def test_of_two_or_three_seeds_nothing_is_concluded():
    for num_seeds in (2, 3):
        systems, seeds = make_seeds(num_seeds, shift=0.8)
        (difference,) = compare(systems, EvaluationPlan("LA"), seeds=seeds).differences
        assert f": not enough seeds ({num_seeds}) to tell; of its variance" in difference.verdict


def test_scores_that_are_named_twice_are_no_two_seeds():
    systems, seeds = make_seeds(4, shift=0.8)
    systems["one 3"] = systems["one 1"]
    with pytest.raises(ValueError, match="found the same scores for one 1 and one 3"):
        compare(systems, EvaluationPlan("LA"), seeds=seeds)


def test_seeds_that_are_not_known_are_not_paired_and_other_systems_stay_as_they_are():
    systems, seeds = make_seeds(4, shift=0.3)
    seeds = {name: SeedOf(found.recipe) for name, found in seeds.items() if found.recipe == "one"}
    systems = {name: joined for name, joined in systems.items() if name in (*seeds, "two 0")}
    (difference,) = compare(systems, EvaluationPlan("LA"), seeds=seeds).differences
    assert (difference.first, difference.second) == ("one", "two 0")
    assert (difference.tested.num_seeds, difference.tested.is_paired) == ((4, 1), False)
    assert "and 8 attacks, and 4 and 1 seeds)" in difference.verdict


def test_one_recipe_alone_has_nothing_to_be_compared_with():
    systems, seeds = make_seeds(3, shift=0.3)
    only = {name: joined for name, joined in systems.items() if seeds[name].recipe == "one"}
    with pytest.raises(ValueError, match="systems: found 1, expected two or more"):
        compare(only, EvaluationPlan("LA"), seeds=seeds)
