"""Stages of versions, and the champion."""

import re

import pytest

from sls.config_file import build_config
from sls.tracking.registry.stages import (
    Champion,
    appoint_champion,
    choose_champion,
    comparable_place,
    cost_source_tag,
    cost_tag,
    eer_tag,
    evaluated_place,
    explain_champion,
    find_champion,
    in_production,
    move_stage,
    note_costs,
    point_alias,
)
from sls.tracking.store import REGISTERED_MODEL_NAME, connect

BEST = Champion("2", "version 2 has the lowest EER on DF")


def make_versions(count: int) -> None:
    """Versions with tags alone, which is all that stages need."""
    client = connect()
    client.create_registered_model(REGISTERED_MODEL_NAME)
    for _ in range(count):
        client.create_model_version(REGISTERED_MODEL_NAME, source="nowhere/model", tags={"stage": "staging"})


def stages() -> dict[str, str]:
    versions = connect().search_model_versions(f"name='{REGISTERED_MODEL_NAME}'")
    return {str(version.version): version.tags["stage"] for version in versions}


def set_eer(version: str, track: str, eer_percent: float) -> None:
    connect().set_model_version_tag(REGISTERED_MODEL_NAME, version, eer_tag(track), str(eer_percent))


def test_one_version_is_in_production_and_the_champion_follows(store) -> None:
    make_versions(3)
    client = connect()
    first = move_stage(client, "1", "production")
    assert (first.before, first.after, first.archived, first.champion) == ("staging", "production", (), "1")
    second = move_stage(client, "3", "production")
    assert second.archived == ("1",)
    assert stages() == {"1": "archived", "2": "staging", "3": "production"}
    assert find_champion(client) == "3"
    again = move_stage(client, "3", "production")
    assert again.archived == ()
    assert stages()["3"] == "production"


@pytest.mark.parametrize("stage", ["archived", "staging"])
def test_leaving_production_leaves_no_champion(store, stage: str) -> None:
    make_versions(1)
    move_stage(connect(), "1", "production")
    assert move_stage(connect(), "1", stage).champion == ""
    assert in_production(connect()) == []
    assert find_champion(connect()) == ""


def test_only_what_is_archived_or_leaves_production_takes_the_champion_with_it(store) -> None:
    make_versions(3)
    client = connect()
    appoint_champion(client, "1")
    assert move_stage(client, "2", "archived").champion == "1"
    assert move_stage(client, "1", "staging").champion == "1"
    assert move_stage(client, "1", "archived").champion == ""
    move_stage(client, "3", "production")
    client.set_model_version_tag(REGISTERED_MODEL_NAME, "2", "stage", "production")  # by hand
    assert move_stage(client, "2", "staging").champion == "3"


def test_two_processes_that_move_at_once_are_told(store, monkeypatch) -> None:
    make_versions(2)
    client = connect()
    point = client.set_registered_model_alias

    def point_while_another_moves(name: str, alias: str, version: str) -> None:
        point(name, alias, version)
        client.set_model_version_tag(name, "1", "stage", "production")

    monkeypatch.setattr(client, "set_registered_model_alias", point_while_another_moves)
    with pytest.raises(ValueError, match="production: found versions (1, 2|2, 1), expected 2"):
        move_stage(client, "2", "production")


def test_two_versions_set_to_production_by_hand_become_one(store) -> None:
    make_versions(3)
    for version in ("1", "2"):
        connect().set_model_version_tag(REGISTERED_MODEL_NAME, version, "stage", "production")
    assert set(move_stage(connect(), "3", "production").archived) == {"1", "2"}
    assert in_production(connect()) == ["3"]


def test_unknown_version_or_stage_is_named_and_changes_nothing(store) -> None:
    make_versions(2)
    with pytest.raises(ValueError, match="version: found 9, expected .* there are 1, 2"):
        move_stage(connect(), "9", "production")
    with pytest.raises(ValueError, match="stage: found live, .*staging, production, archived"):
        move_stage(connect(), "1", "live")
    with pytest.raises(ValueError, match="stage: found nothing"):
        move_stage(connect(), "1", "")
    assert set(stages().values()) == {"staging"}


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
    make_versions(4)
    for version, cost, source in (("1", 0.4, "dev"), ("2", 0.3, "dev"), ("3", 0.1, "LA"), ("4", 0.5, "dev")):
        set_eer(version, "DF", float(version))
        set_tags(version, {cost_tag("DF"): str(cost), cost_source_tag("DF"): source})
    best = choose_champion(connect(), "DF", "act_dcf")
    assert best.version == "2"
    assert re.search(
        r"lowest actual cost on DF, 0\.3000, by a calibration of dev, of 3 versions", best.reason
    )
    with pytest.raises(ValueError, match=r"evaluated on LA; there are evaluations on DF; .*operating_point"):
        choose_champion(connect(), "LA", "act_dcf")


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
    note_costs(connect(), "m-1", {cost_tag("DF"): "0.25"})
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


def test_synthetic_version_takes_no_alias_from_one_of_real_recordings(store, caplog) -> None:
    make_versions(4)
    client = connect()
    for version, corpus in (("1", "demo"), ("2", "demo"), ("3", "asvspoof"), ("4", "demo")):
        client.set_model_version_tag(REGISTERED_MODEL_NAME, version, "corpus", corpus)
    for version, found in (("1", "1"), ("2", "2"), ("3", "3"), ("4", "3")):
        assert appoint_champion(client, version) == found
        assert point_alias(client, "recipe-v1", version) == found
    assert re.search(r"champion .*version 3\b.*synthetic", caplog.text)
    assert find_champion(client) == "3"


def test_corpus_of_a_version_without_that_tag_is_that_of_its_training(store) -> None:
    make_versions(3)
    client = connect()
    for version, corpus in (("2", "asvspoof"), ("3", "demo")):
        run = client.create_run("0", tags={"corpus": corpus})
        client.set_model_version_tag(REGISTERED_MODEL_NAME, version, "run_id", run.info.run_id)
    # Nothing is known of the first.
    for version, found in (("3", "3"), ("1", "1"), ("3", "1"), ("2", "2"), ("3", "2")):
        assert point_alias(client, "recipe-v1", version) == found


def test_experiment_does_not_replace_what_is_in_production(store, caplog) -> None:
    make_versions(2)
    client = connect()
    assert appoint_champion(client, "2") == "2"
    assert find_champion(client) == "2"
    move_stage(client, "1", "production")
    assert appoint_champion(client, "2") == "1"
    assert find_champion(client) == "1"
    assert "version=2 -P stage=production" in caplog.text


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
