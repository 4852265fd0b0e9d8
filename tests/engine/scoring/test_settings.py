"""What scores are made with, so that no score file mixes two arithmetics."""

from pathlib import Path

import pytest

from sls.config import ComputeConfig, ScoringConfig
from sls.engine.scoring.settings import check_same, scores_key, settings_of

MADE_WITH = {"track": "LA", "versions": {"torch": "2"}, "linear_layers": "packed", "precision": "bf16"}


def test_scores_of_something_else_are_refused_by_what_differs() -> None:
    for other in ({**MADE_WITH, "linear_layers": "plain"}, {"precision": "bf16"}):
        with pytest.raises(ValueError, match=r"df\.txt: found .*linear_layers packed, .*; remedy$"):
            check_same(MADE_WITH, other, Path("df.txt"), "remedy")
        with pytest.raises(ValueError, match="expected linear_layers packed; remedy$"):
            check_same(other, MADE_WITH, Path("df.txt"), "remedy")


def test_what_moves_no_score_makes_no_difference() -> None:
    other = {**MADE_WITH, "track": "DF", "versions": {}}
    check_same(MADE_WITH, other, Path("df.txt"), "")
    assert scores_key(MADE_WITH) == scores_key(other)


def test_the_key_of_scores_from_before_there_was_a_choice_of_resampler_is_that_of_soxr() -> None:
    of = {name: settings_of(ComputeConfig(), ScoringConfig(name)) for name in ("soxr", "kaiser_best")}
    earlier = {name: value for name, value in of["soxr"].items() if name != "resampler"}
    assert scores_key(earlier) == scores_key(of["soxr"]) != scores_key(of["kaiser_best"])
