"""Stages of versions, and the champion."""

import re

import pytest

from sls.tracking.registry.stages import (
    appoint_champion,
    find_champion,
    in_production,
    move_stage,
    point_alias,
)
from sls.tracking.store import REGISTERED_MODEL_NAME, connect


def make_versions(count: int) -> None:
    """Versions with tags alone, which is all that stages need."""
    client = connect()
    client.create_registered_model(REGISTERED_MODEL_NAME)
    for _ in range(count):
        client.create_model_version(REGISTERED_MODEL_NAME, source="nowhere/model", tags={"stage": "staging"})


def stages() -> dict[str, str]:
    versions = connect().search_model_versions(f"name='{REGISTERED_MODEL_NAME}'")
    return {str(version.version): version.tags["stage"] for version in versions}


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


def test_experiment_does_not_replace_what_is_in_production(store, caplog) -> None:
    make_versions(2)
    client = connect()
    assert appoint_champion(client, "2") == "2"
    assert find_champion(client) == "2"
    move_stage(client, "1", "production")
    assert appoint_champion(client, "2") == "1"
    assert find_champion(client) == "1"
    assert "version=2 -P stage=production" in caplog.text
