import numpy as np
import pytest

from sls.metrics.sampling import BONAFIDE, MIN_CLUSTERS, SPOOF, Axis, Sampling, count_equal, leave_out

OF_SPEAKER = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
VALUES = np.array([1.0, 0, 1, 0, 0, 1, 1, 1, 0, 0])


def test_deviations_of_a_cluster_are_what_leaving_it_out_changes():
    axis = Axis((OF_SPEAKER, None), "speakers")
    without = np.array([VALUES[speaker != OF_SPEAKER].mean() for speaker in range(4)])
    np.testing.assert_allclose(axis.deviations(BONAFIDE, VALUES), VALUES.mean() - without, atol=1e-12)
    assert axis.deviations(SPOOF, VALUES).tolist() == [0] * 4


def test_independent_trials_have_the_variance_of_a_mean():
    axis = Axis((np.arange(10), None))
    moved = Sampling((axis,)).deviations(BONAFIDE, VALUES)
    size = VALUES.size
    # Each trial left out: the variance of a mean, times n / (n - 1).
    assert moved @ moved == pytest.approx(VALUES.var(ddof=1) / size * size / (size - 1))


def test_speakers_and_attacks_add_their_variances():
    attacks = np.arange(10) % 3
    one, other = Axis((None, OF_SPEAKER), "speakers"), Axis((None, attacks), "attacks")
    both = Sampling((one, other)).deviations(SPOOF, VALUES)
    alone = [axis.deviations(SPOOF, VALUES) for axis in (one, other)]
    assert both @ both == pytest.approx(sum(moved @ moved for moved in alone))


def test_a_cluster_that_holds_every_trial_moves_nothing():
    assert leave_out(np.zeros(3), np.array([0.0, 5.0, 0.0])).tolist() == [0, 0, 0]
    assert Axis((np.full(4, 2), None)).without_single().codes == (None, None)
    assert Axis((OF_SPEAKER, np.full(4, 2))).without_single().codes[BONAFIDE] is OF_SPEAKER


@pytest.mark.parametrize(
    ("counts", "weight"),
    [([5, 5, 5, 5], 4), ([1], 1), ([7, 7, 0], 2), ([1_000, 1, 1, 1], 1), ([2, 1], 25 / 17)],
)
def test_clusters_weigh_as_many_equal_ones(counts, weight):
    assert count_equal(np.array(counts, dtype=float)) == pytest.approx(weight, abs=1e-4)


def test_degrees_of_freedom_and_fewest_clusters_are_those_of_the_smallest_axis_of_a_class():
    attacks = np.arange(10) % 3
    sampling = Sampling((Axis((OF_SPEAKER, OF_SPEAKER), "speakers"), Axis((None, attacks), "attacks")))
    assert sampling.fewest == (4, 3)
    speakers, attacked = (count_equal(np.bincount(codes).astype(float)) for codes in (OF_SPEAKER, attacks))
    assert sampling.freedom == pytest.approx((speakers - 1, min(speakers, attacked) - 1))


def test_no_verdict_rests_on_few_clusters_or_trials_or_on_unequal_ones():
    enough = Axis((np.arange(40), np.arange(40)))

    def shortage(count: int, weight: float) -> str:
        numbers, weights = {"speakers": 40, "attacks": count}, {"speakers": 40.0, "attacks": weight}
        return Sampling((enough,), "", numbers, weights).shortage

    assert shortage(MIN_CLUSTERS, MIN_CLUSTERS - 0.2) == ""
    assert shortage(2, 2.0) == "not enough attacks (2) to tell"
    assert "attacks (50" in shortage(50, 2.3)
    assert "2.3" in shortage(50, 2.3)
    assert Sampling((enough,)).shortage == ""
    few = Sampling((Axis((np.arange(3), None)), Axis((None, np.arange(40)))))
    assert few.shortage == "not enough bona fide trials (3) to tell"
