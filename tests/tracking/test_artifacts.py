"""The states of a training in the artifact store: each whole or of no account, the furthest first."""

import os
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sls.files import scratch_directory
from sls.tracking.active_run import tracked_run
from sls.tracking.artifacts import download_state
from sls.tracking.run import TrackedRun


def keep(run: TrackedRun, epoch: int, batch: int = 0, text: str = "") -> None:
    with run.staging() as directory:
        (directory / "state.bin").write_text(text or f"epoch {epoch}, batch {batch}")
        run.keep_state(directory, "state", epoch, batch)


def stored(store: Path) -> list[Path]:
    return sorted(store.parent.rglob("epoch_*-state.bin"))


def read(run: TrackedRun) -> str:
    with scratch_directory() as directory:
        download_state(run.client, run.run_id, "state", directory)
        return (directory / "state.bin").read_text()


def test_state_cut_off_in_sending_leaves_the_former_one(store) -> None:
    with tracked_run("train") as run:
        for epoch in range(9, 12):  # names sort by number
            keep(run, epoch)
        keep(run, 11, 5)
    former, last = stored(store)
    assert (former.read_text(), last.read_text()) == ("epoch 11, batch 0", "epoch 11, batch 5")
    assert read(run) == "epoch 11, batch 5"
    client = MlflowClient()
    client.log_text(run.run_id, "torn", f"state/{last.name}")
    assert read(run) == "epoch 11, batch 0"
    client.log_text(run.run_id, "torn too", f"state/{former.name}")
    with pytest.raises(ValueError, match=rf"no whole state\b.*state/{re.escape(last.name)} ") as caught:
        read(run)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="holds no whole weights"):
        download_state(client, run.run_id, "weights", store.parent)


def test_training_taken_back_to_an_earlier_state_leaves_the_further_one_behind(store) -> None:
    """Whatever the clocks of the machines say: states are told apart by where in the training they were made."""
    with tracked_run("train") as run:
        keep(run, 4)
        keep(run, 5)
        stored(store)[-1].write_text("torn")
        assert read(run) == "epoch 4, batch 0"
        keep(run, 4, 7)
        assert [path.read_text() for path in stored(store)] == ["epoch 4, batch 0", "epoch 4, batch 7"]
        keep(run, 5, 0, "on other hardware")
        assert read(run) == "on other hardware"
        keep(run, 5, 0, "on other hardware")
        assert [path.read_text() for path in stored(store)] == ["epoch 4, batch 7", "on other hardware"]
        run.delete_states("state")
        assert stored(store) == []


def test_a_file_on_its_way_into_the_store_is_not_listed(store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may list the artifacts of the run at that moment, and find the file gone in the next."""
    listed, fsync = [], os.fsync

    def list_now(descriptor: int) -> None:
        listed.append([item.path for item in MlflowClient().list_artifacts(run.run_id, "notes")])
        fsync(descriptor)

    with tracked_run("train") as run:
        monkeypatch.setattr(os, "fsync", list_now)
        for number in range(2):
            with run.artifacts("notes") as directory:
                (directory / f"{number}.txt").write_text("noted")
    assert listed[:2] == [[], ["notes/0.txt"]]
