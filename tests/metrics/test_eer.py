import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sls.metrics.eer import compute_eer, det_curve, eer_of_curve, rank_trials
from tests.metrics.naive import draw_scores, naive_curve, naive_eer

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
@given(SCORES, SCORES)
def test_curve_is_that_of_counting_at_every_threshold_with_ties(bonafide, spoof):
    if len({*bonafide, *spoof}) < 2:
        return
    curve = det_curve(bonafide, spoof)
    expected = np.array(naive_curve(bonafide, spoof))
    np.testing.assert_allclose(
        np.stack([curve.frr, curve.far, curve.thresholds], axis=1), expected, atol=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES, st.randoms())
def test_ranking_does_not_depend_on_the_order_of_the_trials(bonafide, spoof, random):
    if len({*bonafide, *spoof}) < 2:
        return
    trials = [(score, True) for score in bonafide] + [(score, False) for score in spoof]
    random.shuffle(trials)
    scores, labels = (np.array(values) for values in zip(*trials, strict=True))
    ranking = rank_trials(scores, labels)
    curve, expected = ranking.curve(), det_curve(bonafide, spoof)
    np.testing.assert_array_equal(curve.frr, expected.frr)
    np.testing.assert_array_equal(curve.far, expected.far)
    np.testing.assert_array_equal(curve.thresholds, expected.thresholds)
    np.testing.assert_array_equal(scores[ranking.trials], ranking.scores)
    np.testing.assert_array_equal(labels[ranking.trials], ranking.is_bonafide)


def test_labels_may_be_zeros_and_ones():
    ranking = rank_trials([0.5, 2, 1, 0], [1, 1, 0, 0])
    assert ranking.trials.tolist() == [3, 0, 2, 1]
    assert ranking.is_bonafide.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0, 3.0], [True, False], r"found \(3,\) scores and \(2,\) labels"),
        ([1.0, 1.0], [True, False], "constant"),
        ([1.0, np.nan], [True, False], "NaN"),
        ([1.0, 2.0], [True, True], "no spoofed trial"),
    ],
)
def test_trials_that_have_no_order_raise(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        rank_trials(scores, labels)


def test_some_of_ranked_trials_are_ranked_as_they_are_alone():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3 == 0
    scores = np.round(rng.normal(size=90) + labels, 1)
    ranking = rank_trials(scores, labels)
    is_chosen = rng.random(90) < 0.4
    part, alone = (
        ranking.at(np.flatnonzero(is_chosen[ranking.trials])),
        rank_trials(scores[is_chosen], labels[is_chosen]),
    )
    np.testing.assert_array_equal(np.sort(part.trials), np.flatnonzero(is_chosen))
    np.testing.assert_array_equal(scores[part.trials], alone.scores)
    np.testing.assert_array_equal(labels[part.trials], alone.is_bonafide)
    np.testing.assert_array_equal(part.curve().far, alone.curve().far)
    assert (part.num_bonafide, part.num_spoof) == (alone.num_bonafide, alone.num_spoof)


def test_sweep_starts_with_everything_accepted_and_ends_with_everything_rejected():
    curve = det_curve([1.0, 2.0], [0.0, 0.5, 1.5])
    assert (curve.frr[0], curve.far[0]) == (0, 1)
    assert (curve.frr[-1], curve.far[-1]) == (1, 0)
    assert curve.thresholds[0] == pytest.approx(-0.001)


def test_bonafide_falls_first_where_scores_tie():
    # Rejecting bona fide first: (0,1) (.5,1) (1,1) ... the EER of all-tied halves is 0.5 + something, not less.
    assert compute_eer([0.0, 1.0], [0.0, -1.0]).eer == naive_eer([0.0, 1.0], [0.0, -1.0])
    curve = det_curve([0.0, 1.0], [0.0, -1.0])
    assert curve.frr.tolist() == [0, 0, 0.5, 0.5, 1]


def test_perfect_and_inverted_scores_have_eer_zero_and_one():
    assert compute_eer([2.0, 3.0], [0.0, 1.0]).eer == 0
    assert compute_eer([0.0, 1.0], [2.0, 3.0]).eer == 1


def test_eer_of_many_ties_is_that_of_the_stable_sort():
    bonafide, spoof = draw_scores(3, 200, 300)
    assert compute_eer(bonafide, spoof).eer == pytest.approx(
        naive_eer(list(bonafide), list(spoof)), abs=1e-12
    )


@pytest.mark.parametrize(
    ("bonafide", "spoof", "message"),
    [
        ([], [1.0], "no bona fide trial"),
        ([1.0], [], "no spoofed trial"),
        ([np.nan, 1.0], [0.0], "NaN"),
        ([1.0], [np.inf, 0.0], "infinite"),
        ([1.0, 1.0], [1.0], "constant"),
        ([[1.0]], [0.0], "one dimension"),
    ],
)
def test_scores_that_cannot_be_ranked_raise_one_line(bonafide, spoof, message):
    with pytest.raises(ValueError, match=message) as raised:
        compute_eer(bonafide, spoof)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("system", "published"),
    [("paper", 7.4641), ("v1", 7.8357), ("v2", 12.6688)],
    ids=lambda value: str(value),
)
def test_in_the_wild_has_the_published_eer(reference_dir, system, published):
    key = dict(line.split()[1::4] for line in (reference_dir / "in_the_wild/in_the_wild_key.txt").open())
    rows = [line.split() for line in (reference_dir / f"in_the_wild/scores_{system}.txt").open()]
    scores = np.array([float(score) for _, score in rows])
    is_bonafide = np.array([key[name] != "spoof" for name, _ in rows])
    assert round(100 * compute_eer(scores[is_bonafide], scores[~is_bonafide]).eer, 4) == published


def test_ties_in_a_drawn_order_favour_no_class_and_leave_other_scores_in_theirs() -> None:
    rng = np.random.default_rng(4)
    is_bonafide = rng.random(2_000) < 0.4
    scores = np.where(rng.random(2_000) < 0.9, 0.0, rng.normal(size=2_000))
    ranking = rank_trials(scores, is_bonafide)
    drawn = ranking.draw_ties(np.random.default_rng(5))
    np.testing.assert_array_equal(drawn.scores, ranking.scores)
    np.testing.assert_array_equal(drawn.scores, scores[drawn.trials])
    np.testing.assert_array_equal(drawn.is_bonafide, is_bonafide[drawn.trials])
    assert sorted(drawn.trials) == list(range(2_000))
    assert eer_of_curve(ranking.curve()).eer > 0.9
    assert abs(eer_of_curve(drawn.curve()).eer - 0.5) < 0.05
