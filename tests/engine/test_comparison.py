import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest

from sls.data.scores import join_scores, read_scores
from sls.data.tracks import load_tracks
from sls.engine.breakdown import BootstrapSettings
from sls.engine.comparison import compare
from sls.engine.comparison_results import Difference, Resampled, say_verdict
from sls.metrics.bootstrap import Interval
from tests.engine.keys import make_asv, make_corpus

QUICK = BootstrapSettings(num_resamples=200)


def make_systems(noise: float = 0.0, shift: float = 0.0):
    """Two systems on the same trials; the second has noise added, and its bona fide scores moved down."""
    first = make_corpus()
    rng = np.random.default_rng(3)
    scores = first.scores + noise * rng.normal(size=len(first)) - shift * (first.key.labels == 1)
    return {"one": first, "two": replace(first, scores=scores)}


def test_a_clear_difference_is_distinguishable_over_trials_and_over_clusters():
    found = compare(make_systems(shift=0.8), track="LA", settings=QUICK)
    (difference,) = found.differences
    evaluations = found.evaluations
    assert difference.value == evaluations[0].eer - evaluations[1].eer
    assert difference.value < 0
    for resampled in (difference.over_trials, difference.over_clusters):
        assert resampled.conclusion == "distinguishable"
        assert resampled.interval.low <= difference.value <= resampled.interval.high
        assert resampled.p_value == pytest.approx(2 / 201)
    assert difference.over_trials.interval.over == "trials"
    assert difference.over_clusters.interval.over == "speakers and attacks"
    assert found.verdicts[0].startswith("one is better than two on LA by ")
    assert found.verdicts[0].endswith(": distinguishable")


def test_a_little_noise_is_not_distinguishable():
    (difference,) = compare(make_systems(noise=0.05), track="LA", settings=QUICK).differences
    assert difference.over_trials.conclusion == "not distinguishable"
    assert difference.over_trials.p_value > 0.05
    assert difference.verdict.endswith(": not distinguishable")


def test_without_speakers_a_difference_rests_on_trials_alone_a_thousand_times_resampled():
    rows = np.arange(0, 1_200, 10)
    systems = {
        name: replace(joined.select(rows), key=replace(joined.key.select(rows), fields={}))
        for name, joined in make_systems(noise=0.5).items()
    }
    (difference,) = compare(systems, track="X").differences
    assert difference.over_clusters is None
    interval = difference.over_trials.interval
    assert (interval.over, interval.level, interval.num_resamples) == ("trials", 0.95, 1_000)


def test_a_system_compared_with_itself_is_the_same():
    found = compare(make_systems(), track="LA", settings=QUICK)
    (difference,) = found.differences
    assert difference.value == 0
    assert difference.over_trials.p_value == 1
    assert difference.over_trials.interval.low == difference.over_trials.interval.high == 0
    assert "have the same EER" in difference.verdict
    assert all(found.spread == 0 for found in found.disagreements)


def test_the_verdict_is_the_sentence_of_the_example():
    interval = Interval(-0.0012, 0.0004, 0.95, "speakers and attacks", 1_000)
    resampled = Resampled(interval, 0.31, 0.31)
    difference = Difference("v2", "v1", "eer", -0.0004, "fraction", None, resampled)
    assert say_verdict(difference, "LA") == (
        "v2 is better than v1 on LA by 0.04 points; the 95 % interval of the difference is [-0.04, 0.12] points "
        "(over speakers and attacks, p = 0.31): not distinguishable"
    )
    swapped = replace(difference, first="v1", second="v2", value=0.0004)
    swapped = replace(
        swapped, over_clusters=replace(resampled, interval=replace(interval, low=-0.0004, high=0.0012))
    )
    assert say_verdict(swapped, "LA") == say_verdict(difference, "LA")


def test_only_common_trials_are_compared_and_it_is_said(caplog):
    systems = make_systems(noise=0.5)
    rng = np.random.default_rng(0)
    order = rng.permutation(1_200)[:1_000]
    systems["two"] = systems["two"].select(order)
    systems["one"] = systems["one"].select(np.arange(1_150))
    with caplog.at_level(logging.WARNING):
        found = compare(systems, track="LA", settings=QUICK)
    expected = np.sum(order < 1_150)
    assert found.num_common == expected
    assert found.notes == (f"compared on the {expected} trials that all have in common (one 1150, two 1000)",)
    # Whoever shows the result shows its notes: logged as well, they would be read twice.
    assert found.notes[0] not in caplog.text
    # The order of a system's rows does not matter.
    aligned = dict(systems, two=systems["two"].select(np.argsort(order)))
    assert compare(aligned, track="LA", settings=QUICK).differences == found.differences


def test_systems_that_cannot_be_compared_raise():
    systems = make_systems()
    with pytest.raises(ValueError, match="two or more"):
        compare({"one": systems["one"]}, track="LA")
    apart = {
        "one": systems["one"].select(np.arange(600)),
        "two": systems["two"].select(np.arange(600, 1_200)),
    }
    with pytest.raises(ValueError, match="in common"):
        compare(apart, track="LA")
    two = systems["two"]
    flipped = replace(two, key=replace(two.key, labels=(1 - two.key.labels).astype(np.int8)))
    with pytest.raises(ValueError, match="other labels"):
        compare({"one": systems["one"], "two": flipped}, track="LA")


def test_min_tdcf_is_compared_where_it_is_earned():
    found = compare(
        make_systems(shift=0.8), track="LA", asv=make_asv(), metrics=("eer", "min_tdcf"), settings=QUICK
    )
    assert [difference.measure for difference in found.differences] == ["eer", "min_tdcf"]
    difference = found.differences[1]
    assert difference.unit == "cost"
    assert difference.value == found.evaluations[0].min_tdcf - found.evaluations[1].min_tdcf
    assert difference.over_trials.interval.low <= difference.value <= difference.over_trials.interval.high
    assert "in min t-DCF" in difference.verdict


def test_three_systems_give_three_pairs_with_adjusted_p_values():
    systems = make_systems(noise=0.3)
    systems["three"] = replace(systems["one"], scores=systems["one"].scores ** 3)
    found = compare(systems, track="LA", settings=QUICK)
    pairs = [(difference.first, difference.second) for difference in found.differences]
    assert pairs == [("one", "two"), ("one", "three"), ("two", "three")]
    for difference in found.differences:
        assert difference.over_trials.p_value_holm >= difference.over_trials.p_value
    same = found.differences[1]  # a cube keeps the ranks
    assert same.value == 0


@pytest.mark.parametrize(("num_systems", "num_resamples"), [(3, 39), (8, 1_000)])
def test_a_clearly_better_system_is_told_from_every_other_however_many_there_are(num_systems, num_resamples):
    best = make_corpus()
    rng = np.random.default_rng(5)
    worse = best.scores - 0.8 * (best.key.labels == 1)
    systems = {"best": best}
    for number in range(1, num_systems):
        noise = 0.1 * rng.normal(size=len(best))
        systems[f"worse {number}"] = replace(best, scores=worse + noise)
    found = compare(systems, track="LA", settings=BootstrapSettings(num_resamples=num_resamples))
    of_best = [difference for difference in found.differences if difference.first == "best"]
    assert len(of_best) == num_systems - 1
    for difference in of_best:
        assert difference.over_trials.conclusion == "distinguishable"
        assert difference.over_clusters.conclusion == "distinguishable"
    (note,) = found.notes
    num_pairs = math.comb(num_systems, 2)
    drawn = of_best[0].over_trials.interval.num_resamples
    assert drawn >= 2 * num_pairs / 0.05 - 1
    assert note == (
        f"drew {drawn} resamples for the differences, not {num_resamples}: fewer cannot tell {num_systems} "
        f"systems apart among all {num_pairs} pairs"
    )


def test_no_more_resamples_are_drawn_than_the_pairs_need_and_none_where_none_are_wanted():
    settings = BootstrapSettings(num_resamples=1_000)
    assert settings.enough_for(1) is settings
    assert settings.enough_for(21) is settings  # seven systems
    none = BootstrapSettings(num_resamples=0)
    assert none.enough_for(28) is none


def test_the_trial_on_which_systems_disagree_most_comes_first():
    systems = make_systems()
    scores = systems["two"].scores.copy()
    lowest = int(np.argmin(scores))
    scores[lowest] = 99.0
    systems["two"] = replace(systems["two"], scores=scores)
    found = compare(systems, track="LA", settings=QUICK, num_disagreements=3)
    first = found.disagreements[0]
    assert len(found.disagreements) == 3
    assert first.trial == f"T_{lowest:05d}"
    assert first.ranks == {"one": 0.0, "two": 1.0}
    assert first.fields["speaker"].startswith("S")


def test_a_comparison_survives_json():
    found = compare(make_systems(noise=0.2), track="LA", subset="eval", settings=QUICK)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["differences"][0]["over_trials"]["interval"]["over"] == "trials"
    assert [evaluation["system"] for evaluation in content["evaluations"]] == ["one", "two"]
    assert content["evaluations"][0]["subset"] == "eval"


def test_in_the_wild_tells_the_published_systems_apart(reference_dir):
    root = reference_dir / "in_the_wild"
    key = load_tracks()["In-the-Wild"].key(root)
    systems = {
        name: join_scores(read_scores(root / f"scores_{name}.txt"), key) for name in ("paper", "v1", "v2")
    }
    found = compare(systems, track="In-the-Wild", settings=QUICK)
    assert [round(100 * evaluation.eer, 2) for evaluation in found.evaluations] == [7.46, 7.84, 12.67]
    assert all(difference.over_trials.conclusion == "distinguishable" for difference in found.differences)
    assert found.verdicts[0].startswith("paper is better than v1 on In-the-Wild by 0.37 points")


def test_with_too_few_resamples_nothing_is_concluded():
    with pytest.raises(
        ValueError, match="num_resamples: found 20, expected 0 for no intervals, or at least 39"
    ):
        BootstrapSettings(num_resamples=20)
    assert BootstrapSettings(num_resamples=39).num_resamples == 39


@pytest.mark.parametrize(
    ("p_value", "adjusted", "conclusion"),
    [
        (0.05, 0.05, "distinguishable"),
        (0.06, 0.06, "not distinguishable"),
        (0.03, 0.09, "distinguishable as a pair alone, not among all pairs"),
    ],
)
def test_the_verdict_follows_the_p_value_also_when_it_is_adjusted(p_value, adjusted, conclusion):
    interval = Interval(-0.02, -0.01, 0.95, "trials", 1_000)
    difference = Difference("a", "b", "eer", -0.015, "fraction", Resampled(interval, p_value, adjusted), None)
    assert say_verdict(difference, "LA").endswith(f": {conclusion}")
