"""What scores are made with, so that no score file mixes two arithmetics."""

from pathlib import Path

import pytest

from sls.config import ComputeConfig, ScoringConfig
from sls.data.conditions.conditions import Condition
from sls.engine.scoring.settings import check_same, describe_condition, scores_key, settings_of

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


def test_scores_by_another_resampler_have_another_key() -> None:
    of = [settings_of(ComputeConfig(), ScoringConfig(name)) for name in ("soxr", "soxr", "kaiser_best")]
    assert scores_key(of[0]) == scores_key(of[1]) != scores_key(of[2])


def test_scores_of_one_condition_are_not_those_of_another_nor_clean() -> None:
    opus = Condition("opus-16", "codec", {"codec": "opus", "kbps": 16.0})
    worse = Condition("opus-16", "codec", {"codec": "opus", "kbps": 6.0})
    # Its name seeds what it draws.
    renamed = Condition("voip", "codec", {"codec": "opus", "kbps": 16.0})
    made_with = [{**MADE_WITH, **describe_condition(found)} for found in (None, opus, worse, renamed)]
    assert made_with[0] == MADE_WITH
    assert len({scores_key(item) for item in made_with}) == 4
    told = (
        r"condition opus-16, condition_settings .*opus.*, expected condition clean, condition_settings clean"
    )
    with pytest.raises(ValueError, match=told):
        check_same(made_with[1], made_with[0], Path("LA.txt"), "")
    with pytest.raises(
        ValueError, match=r"found .*condition_settings .*16.*, expected condition_settings .*6"
    ):
        check_same(made_with[1], made_with[2], Path("LA.txt"), "")
    with pytest.raises(ValueError, match="found .*condition voip, expected condition opus-16;"):
        check_same(made_with[3], made_with[1], Path("LA.txt"), "")
