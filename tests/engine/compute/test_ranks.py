"""The order in which the processes of a launch end, so that the first one can say why."""

from typing import Any

import pytest
from torch import distributed

from sls.engine.compute.ranks import Ranks, join_ranks
from sls.engine.compute.training_processes import lost_process_raises

SECOND = Ranks(rank=1, world_size=3)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """What is asked of a process group in which rank 2 fails."""
    found: list[str] = []

    def gather(told: list[Any], own: Any) -> None:
        told[:] = [("", "a"), own, ("no memory", None)]

    monkeypatch.setattr(distributed, "all_gather_object", gather)
    for name in ("init_process_group", "destroy_process_group", "barrier"):
        monkeypatch.setattr(distributed, name, lambda *unused, name=name, **more: found.append(name))
    return found


def test_a_process_that_fails_keeps_the_others_until_it_ends(calls) -> None:
    environment = {"WORLD_SIZE": "3", "RANK": "0"}
    with pytest.raises(ValueError, match="refused"), join_ranks(environment):
        raise ValueError("refused")
    assert calls == ["init_process_group"]
    with join_ranks(environment) as ranks:
        assert ranks.world_size == 3
    assert calls[1:] == ["init_process_group", "destroy_process_group"]


def test_a_process_alone_is_the_first_whatever_its_rank_is_said_to_be(calls) -> None:
    for environment in ({}, {"RANK": "", "WORLD_SIZE": ""}, {"RANK": "2"}):
        with join_ranks(environment) as ranks:
            assert ranks == Ranks()
    assert not calls


def test_the_first_process_hears_of_a_failure_and_the_others_wait_for_its_end(calls) -> None:
    with pytest.raises(ValueError, match="^rank 2: no memory$"):
        Ranks(world_size=3).wait_for_all("b")
    assert not calls
    with pytest.raises(ValueError, match="rank 2"):
        SECOND.wait_for_all("b")
    assert calls == ["barrier"]
    with pytest.raises(OSError, match="mine"), SECOND.tell_failure():
        raise OSError("mine")


def test_a_process_that_is_gone_is_no_bad_input(monkeypatch) -> None:
    def lose(*unused: Any, **more: Any) -> None:
        raise RuntimeError("Connection closed by peer")

    for name in ("all_gather_object", "broadcast_object_list"):
        monkeypatch.setattr(distributed, name, lose)
    for meet in (SECOND.wait_for_all, lambda: SECOND.share(None)):
        with pytest.raises(ConnectionError, match=": Connection closed"):
            meet()
        # Also where a training begins, before its first step.
        with (
            pytest.raises(ConnectionError, match=r": Connection closed.*; resume=1a2b"),
            lost_process_raises("resume=1a2b goes on"),
        ):
            meet()


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_what_no_launcher_sets_is_named(name: str) -> None:
    for text in ("foo", "-1", "1.0"):
        with pytest.raises(ValueError, match=f"{name}: found {text}, expected a number"):
            Ranks.read({name: text})
