"""The simulations of coverage.py and coverage_seeds.py in small: intervals hold, equal systems are not told apart."""

import numpy as np
import pytest

from benchmarks.coverage import METRICS, find_truth, list_designs, simulate
from benchmarks.coverage_seeds import simulate as simulate_seeds

NUM_CORPORA, NUM_STUDIES = 60, 40
LEAST_HELD = 0.85
"""Of 95 % expected: three and a half standard errors below."""
MOST_TOLD_APART = 0.15

WITH_VERDICT = (
    "400 / 1,000 independent trials",
    "48 speakers x 13 attacks (LA)",
    "13 attacks, speakers not known",
    "54 unequal speakers (In-the-Wild)",
)
WITHOUT_VERDICT = ("30 x 2", "2 x 13", "bona fide trials of 2 of 30 speakers, 8 attacks")
DESIGNS = {design.name: design for design in list_designs() if design.eer == 0.04}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", WITH_VERDICT)
def test_intervals_hold_the_truth_and_equal_systems_are_seldom_told_apart(name):
    for measure, tally in simulate(DESIGNS[name], NUM_CORPORA).items():
        assert len(tally.below) == NUM_CORPORA
        assert 1 - np.mean(tally.below) - np.mean(tally.above) >= LEAST_HELD, measure
        if measure != "min_dcf":  # it is not compared
            assert len(tally.distinguished) == len(tally.found) == NUM_CORPORA
            assert np.mean(tally.distinguished) <= MOST_TOLD_APART < np.mean(tally.found), measure


@pytest.mark.parametrize("name", WITHOUT_VERDICT)
def test_few_clusters_have_intervals_that_hold_and_no_verdict(name):
    for measure, tally in simulate(DESIGNS[name], NUM_CORPORA // 2).items():
        assert 1 - np.mean(tally.below) - np.mean(tally.above) >= LEAST_HELD, measure
        assert not tally.distinguished
        assert not tally.found


def test_the_truth_is_that_of_a_large_corpus():
    """The stated truth against one corpus of independent trials, whose figures hardly vary."""
    design = DESIGNS["14,816 / 133,360 independent trials"]
    truth = find_truth(design)
    for measure, tally in simulate(design, 3).items():
        assert truth[measure] > 0
        assert sum(tally.below) + sum(tally.above) <= 1, measure
    assert set(truth) == set(METRICS)


def test_intervals_hold_the_truth_over_seeds_as_over_trials_where_seeds_vary():
    for kind, tally in simulate_seeds(share=0.3, num_studies=NUM_STUDIES).items():
        held = np.mean([found.interval.low <= 0 <= found.interval.high for found in tally.equal])
        assert len(tally.equal) == len(tally.unequal) == NUM_STUDIES
        assert held >= LEAST_HELD or kind is None, kind
