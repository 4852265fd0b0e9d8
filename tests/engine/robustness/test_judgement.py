"""What conditions cost, held pair by pair against clean scores; and the sentences of its `results`."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sls.data.conditions.conditions import KINDS, Condition
from sls.data.tables.columns import Columns
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.comparison import compare
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.engine.robustness.judgement import MAX_FLIPS, judge_conditions
from sls.engine.robustness.results import SHOWN_FLIPS, SILENCE_ALONE, SILENCE_TRIMMED, RobustnessReport
from sls.metrics.eer import compute_eer
from sls.metrics.paired import adjust_by_holm
from tests.engine.evaluation.keys import ATTACKS, ENOUGH_ATTACKS, make_corpus, make_joined

PLAN = EvaluationPlan("LA", "mine", "eval")


def named(name: str, kind: str = "white-noise") -> Condition:
    return Condition(name, kind, {"snr_db": 10.0})


def moved(clean: JoinedScores, noise: float = 0.0, shift: float = 0.0, seed: int = 3) -> JoinedScores:
    """Scores with noise added, those of bona fide trials moved down."""
    rng = np.random.default_rng(seed)
    scores = clean.scores + noise * rng.normal(size=len(clean)) - shift * clean.is_bonafide
    return replace(clean, scores=scores)


def judged(shifts: dict[str, float], control: str = "") -> RobustnessReport:
    """Conditions by how far each moves the scores of bona fide trials down; a control knows nothing."""
    clean = make_corpus(attacks=ENOUGH_ATTACKS)
    conditions = [(named(name), moved(clean, 0.1, shift)) for name, shift in shifts.items()]
    if control:
        chance = replace(clean, scores=np.random.default_rng(5).normal(size=len(clean)))
        conditions.append((named(control, SILENCE_ALONE), chance))
    return judge_conditions(clean, conditions, PLAN, "ours")


@pytest.fixture(scope="module")
def clean() -> JoinedScores:
    return make_corpus(attacks=ENOUGH_ATTACKS)


@pytest.fixture(scope="module")
def degraded(clean: JoinedScores) -> dict[str, JoinedScores]:
    return {"mild": moved(clean, 0.2), "bad": moved(clean, shift=1.0), "worse": moved(clean, 1.0, 1.0)}


@pytest.fixture(scope="module")
def report(clean: JoinedScores, degraded: dict[str, JoinedScores]) -> RobustnessReport:
    chance = replace(clean, scores=np.random.default_rng(5).normal(size=len(clean)))
    conditions = [(named(name), joined) for name, joined in degraded.items()]
    return judge_conditions(clean, [(named("alone", SILENCE_ALONE), chance), *conditions], PLAN, "ours")


def test_the_worst_comes_first_and_a_control_last(report: RobustnessReport) -> None:
    assert [found.name for found in report.results] == ["worse", "bad", "mild", "alone"]
    assert report.results[-1].difference.value > report.results[0].difference.value
    assert "worst of 3 conditions: worse" in report.verdicts[0]
    assert "distinguishable from clean, of all: worse, bad" in report.verdicts[0]


def test_a_condition_is_held_against_clean_as_two_systems_are(
    clean: JoinedScores, degraded: dict[str, JoinedScores], report: RobustnessReport
) -> None:
    for found in report.held:
        alone = compare({found.name: degraded[found.name], "clean": clean}, EvaluationPlan("LA"))
        (difference,) = alone.differences
        assert found.difference.value == pytest.approx(difference.value, abs=1e-12)
        for own, others in zip(
            found.measures[1].intervals, (difference.over_trials, difference.over_clusters), strict=True
        ):
            assert own == others.interval
        assert found.difference.tested.p_value == difference.tested.p_value
        assert found.value("eer") == alone.evaluations[0].eer
    # A control is no member of the family.
    tested = [found.difference.tested for found in report.held]
    assert [item.p_value_holm for item in tested] == adjust_by_holm([item.p_value for item in tested])


def test_errors_are_those_at_the_clean_threshold_where_trials_tie() -> None:
    labels = np.repeat([1, 0], 8)
    scores = np.array([0, 2, 2, 3, 4, 5, 6, 7, -3, -2, -1, 0, 2, 2, 2, 3], dtype=float)
    clean, other = make_joined(scores, labels), make_joined(scores - 1.5, labels)
    report = judge_conditions(clean, [(named("quiet"), other)], PLAN, "ours")
    # Five trials share the score 2: all of them are rejected, or none is.
    assert report.threshold == 2
    (found,) = report.results
    assert found.value("miss") == np.mean(scores[:8] - 1.5 <= 2) == 0.5
    assert found.value("false_alarm") == np.mean(scores[8:] - 1.5 > 2) == 0
    assert found.num_flips == 2
    assert {(flip.clean_score, flip.degraded_score) for flip in found.flips} == {(3, 1.5)}
    assert [flip.label for flip in found.flips].count("spoof") == 1


def test_flips_are_those_that_moved_furthest_across_the_threshold(
    clean: JoinedScores, degraded: dict[str, JoinedScores], report: RobustnessReport
) -> None:
    threshold = compute_eer(clean.scores[clean.is_bonafide], clean.scores[~clean.is_bonafide]).threshold
    found = report.results[0]
    own = degraded["worse"].scores
    crossed = (clean.scores > threshold) != (own > threshold)
    assert found.num_flips == crossed.sum() > MAX_FLIPS == len(found.flips)
    distances = [abs(flip.degraded_score - flip.clean_score) for flip in found.flips]
    assert distances == sorted(np.abs(own - clean.scores)[crossed], reverse=True)[:MAX_FLIPS]
    first = clean.key.names.tolist().index(found.flips[0].trial)
    assert (found.flips[0].clean_score, found.flips[0].degraded_score) == (clean.scores[first], own[first])
    assert found.flips[0].label == ("bonafide" if clean.is_bonafide[first] else "spoof")


def test_scores_that_cannot_be_ranked_cost_their_own_condition_alone(clean: JoinedScores) -> None:
    flat = replace(clean, scores=np.zeros(len(clean)))
    found = judge_conditions(clean, [(named("flat"), flat), (named("mild"), moved(clean, 0.2))], PLAN, "ours")
    assert [item.name for item in found.results] == ["mild"]
    assert "flat" in found.notes[0]
    assert "constant" in found.notes[0]
    with pytest.raises(ValueError, match=r"scores\.txt: scores are constant"):
        judge_conditions(flat, [], PLAN, "ours")


def test_the_kinds_by_which_silence_is_known_are_there() -> None:
    assert {SILENCE_TRIMMED, SILENCE_ALONE} <= set(KINDS)


@pytest.mark.parametrize(
    ("shift", "told"),
    [
        (0.9, ": ours relies on that silence"),
        (0.0, ": nothing shows that ours relies on that silence; "),
        (-0.9, ": that silence misleads ours"),
    ],
)
def test_trimmed_silence_is_told_by_its_interval(clean: JoinedScores, shift: float, told: str) -> None:
    trimmed = named("trimmed", SILENCE_TRIMMED)
    found = judge_conditions(clean, [(trimmed, moved(clean, 0.2, shift))], PLAN, "ours")
    assert told in found.verdicts[1]
    assert "10 speakers and 8 attacks" in found.verdicts[1]


@pytest.mark.parametrize(
    ("separation", "told"),
    [
        (1.5, "over 10 speakers and 8 attacks, where 50 % is chance: ours hears silence"),
        (0.0, ": nothing shows that ours hears silence; "),
        (-1.5, ": ours hears silence, and takes that of spoofed recordings for bona fide"),
    ],
)
def test_silence_alone_is_held_against_chance(clean: JoinedScores, separation: float, told: str) -> None:
    noise = np.random.default_rng(7).normal(size=len(clean))
    alone = replace(clean, scores=noise + separation * clean.is_bonafide)
    found = judge_conditions(clean, [(named("alone", SILENCE_ALONE), alone)], PLAN, "ours")
    assert len(found.verdicts) == 1
    assert told in found.verdicts[0]


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_recordings_without_silence_which_share_a_score_are_no_sign_of_hearing_it(
    clean: JoinedScores, share: float
) -> None:
    rng = np.random.default_rng(9)
    scores = np.where(rng.random(len(clean)) < share, 0.1, rng.normal(size=len(clean)))
    alone = (named("alone", SILENCE_ALONE), replace(clean, scores=scores))
    found = judge_conditions(clean, [alone], PLAN, "ours")
    assert abs(found.results[0].value("eer") - 0.5) < 0.05
    assert ": nothing shows that ours hears silence; " in found.verdicts[0]
    # Which of the ties come first is drawn anew, and the same, each time.
    assert judge_conditions(clean, [alone], PLAN, "ours").verdicts == found.verdicts


def test_where_no_score_moves_nothing_is_shown_of_silence(clean: JoinedScores) -> None:
    found = judge_conditions(clean, [(named("trimmed", SILENCE_TRIMMED), clean)], PLAN, "ours")
    assert "[0.00, 0.00]" in found.verdicts[1]
    assert "nothing moves" in found.verdicts[1]
    assert "relies" not in found.verdicts[1]


def test_with_too_few_attacks_neither_silence_nor_worst_is_concluded() -> None:
    clean = make_corpus(attacks=ATTACKS)
    trimmed = (named("trimmed", SILENCE_TRIMMED), moved(clean, shift=1.0))
    alone = (named("alone", SILENCE_ALONE), moved(clean, shift=1.0))
    found = judge_conditions(clean, [trimmed, alone], PLAN, "ours")
    assert len(found.verdicts) == 3
    assert all("not enough attacks (3) to tell" in text for text in found.verdicts)


def test_without_speakers_and_attacks_intervals_are_over_trials(clean: JoinedScores) -> None:
    bare = replace(clean, key=replace(clean.key, fields=Columns({})))
    found = judge_conditions(bare, [(named("mild"), moved(bare, 0.2))], PLAN, "ours")
    assert [item.over for item in found.results[0].measures[1].intervals] == ["trials"]


def test_everything_goes_into_json(report: RobustnessReport) -> None:
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    first = content["results"][0]
    assert first["condition"]["name"] == "worse"
    assert first["condition"]["description"] == "white-noise: snr_db 10"
    assert len(first["flips"]) == SHOWN_FLIPS
    assert content["verdicts"] == list(report.verdicts)
    figures = report.results[1].figures()
    assert figures["eer_diff_percent"] == pytest.approx(100 * report.results[1].difference.value)
    assert figures["eer_diff_percent_clustered_low"] < figures["eer_diff_percent"]
