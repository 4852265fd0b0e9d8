"""How the whole experiment names its champion."""

import pytest

from entrypoints.main import champion_place, explain_champion
from sls.config_file import build_config
from sls.tracking.registry.stages import Champion

BEST = Champion("2", "version 2 has the lowest EER on DF")


@pytest.mark.parametrize(
    ("best", "champion", "said"),
    [
        (BEST, "2", "version 2 has the lowest EER on DF"),
        (BEST, "1", "version 1, as before; although version 2 has the lowest EER on DF"),
        (None, "1", "version 1, as before; nothing comparable was evaluated on DF"),
        (None, "", "none, as before; nothing comparable was evaluated on DF"),
    ],
)
def test_it_says_why_a_version_is_the_champion(best: Champion | None, champion: str, said: str) -> None:
    assert explain_champion(best, champion) == said


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ({}, {}, "demo.DF"),
        ({"precision": "bf16"}, {"precision": "bf16"}, "demo.DF.bf16"),
        ({}, {"precision": "bf16"}, ""),
        ({}, {"window_hop": 16_000}, ""),
    ],
)
def test_recipes_are_compared_where_they_were_scored_alike(first: dict, second: dict, place: str) -> None:
    settings = [build_config(first), build_config(second)]
    assert champion_place(settings, "demo", ["LA", "DF"]) == place
    assert champion_place(settings, "demo", ["LA"]) == ""
