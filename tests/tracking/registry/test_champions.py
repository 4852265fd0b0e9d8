"""Policies: which version is to be the champion, and why."""

import re

import pytest

from sls.config_file import build_config
from sls.tracking.registry.champions import (
    Champion,
    choose_champion,
    comparable_place,
    explain_champion,
    note_costs,
)
from sls.tracking.registry.stages import move_stage
from sls.tracking.store import REGISTERED_MODEL_NAME, connect
from sls.tracking.tags import COST_ENDING, COST_KEY_ENDING, COST_SOURCE_ENDING, EER_ENDING, evaluated_place
from tests.tracking.registry.test_stages import make_versions

BEST = Champion("2", "version 2 has the lowest EER on DF")


def set_eer(version: str, track: str, eer_percent: float) -> None:
    connect().set_model_version_tag(REGISTERED_MODEL_NAME, version, track + EER_ENDING, str(eer_percent))


def test_policy_takes_the_lowest_eer_of_a_track_and_no_archived_version(store) -> None:
    make_versions(4)
    for version, eer_percent in (("1", 3.0), ("2", 2.0), ("3", 2.0), ("4", 1.0)):
        set_eer(version, "DF", eer_percent)
    set_eer("1", "LA", 0.5)
    move_stage(connect(), "4", "archived")
    best = choose_champion(connect())
    assert best.version == "3"
    assert re.search(r"version 3 .*lowest .*\bDF, 2\.00 %.*\b3 versions\b", best.reason)
    assert choose_champion(connect(), "LA").version == "1"
    with pytest.raises(ValueError, match=r"\bPA; .*\bDF, LA$"):
        choose_champion(connect(), "PA")


def set_tags(version: str, tags: dict[str, str]) -> None:
    for name, value in tags.items():
        connect().set_model_version_tag(REGISTERED_MODEL_NAME, version, name, value)


def test_policy_by_cost_takes_the_cheapest_decisions_by_a_calibration_of_the_same_track(store) -> None:
    make_versions(5)
    for version, cost, source, key in (
        ("1", 0.4, "dev", "key"),
        ("2", 0.3, "dev", "key"),
        ("3", 0.1, "LA", "key"),
        ("4", 0.2, "dev", "another"),
        ("5", 0.5, "dev", "key"),
    ):
        set_eer(version, "DF", float(version))
        costs = {
            f"DF{COST_ENDING}": str(cost),
            f"DF{COST_SOURCE_ENDING}": source,
            f"DF{COST_KEY_ENDING}": key,
        }
        set_tags(version, costs)
    best = choose_champion(connect(), "DF", "act_dcf")
    assert best.version == "2"
    assert re.search(
        r"lowest actual cost on DF, 0\.3000, by a calibration of dev, of 3 versions", best.reason
    )
    with pytest.raises(ValueError, match=r"evaluated on LA; there are evaluations on DF; .*operating_point"):
        choose_champion(connect(), "LA", "act_dcf")


@pytest.mark.slow
def test_policy_by_the_worst_track_takes_the_lowest_maximum(store) -> None:
    make_versions(3)
    for version, of_la, of_df in (("1", 1.0, 9.0), ("2", 5.0, 6.0), ("3", 8.0, 2.0)):
        set_eer(version, "LA", of_la)
        set_eer(version, "DF", of_df)
    best = choose_champion(connect(), "LA, DF", "worst")
    assert best.version == "2"
    assert re.search(r"version 2 .*worst track, 6\.00 % on DF of LA, DF, of 3 versions", best.reason)
    assert choose_champion(connect(), "DF").version == "3"
    with pytest.raises(ValueError, match="found LA, DF, expected one track"):
        choose_champion(connect(), "LA, DF")


def test_costs_are_noted_on_the_versions_of_a_checkpoint_alone(store) -> None:
    make_versions(2)
    set_tags("1", {"checkpoint_model_id": "m-1"})
    note_costs(connect(), "m-1", {f"DF{COST_ENDING}": "0.25"})
    tags = [connect().get_model_version(REGISTERED_MODEL_NAME, version).tags for version in ("1", "2")]
    assert [found.get("DF.act_dcf") for found in tags] == ["0.25", None]


def test_policy_compares_only_versions_that_were_evaluated_on_the_same_key(store) -> None:
    """An EER on the demo corpus, or on another corpus with a track of that name, beats nothing elsewhere."""
    make_versions(3)
    for version, eer_percent, key in (("1", 0.1, "demo"), ("2", 2.0, "real"), ("3", 3.0, "real")):
        set_eer(version, "DF", eer_percent)
        connect().set_model_version_tag(REGISTERED_MODEL_NAME, version, "DF.key_sha256", key)
    best = choose_champion(connect())
    assert best.version == "2"
    assert re.search(r"\b2 versions\b", best.reason)


@pytest.mark.parametrize(
    ("corpus", "precision", "place"),
    [
        ("", "", "DF"),
        ("asvspoof", "fp32", "DF"),
        ("asvspoof", "bf16", "DF.bf16"),
        ("demo", "bf16", "demo.DF.bf16"),
        ("Gespräche: 1", "", "Gespr_che_ 1.DF"),  # names of tags are to be plain
    ],
)
def test_eer_of_another_corpus_or_precision_has_a_place_of_its_own(
    corpus: str, precision: str, place: str
) -> None:
    assert evaluated_place(corpus, "DF", precision) == place


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
    assert explain_champion(champion, best) == said


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
    assert comparable_place(settings, "demo", ["LA", "DF"]) == place
    assert comparable_place(settings, "demo", ["LA"]) == ""
