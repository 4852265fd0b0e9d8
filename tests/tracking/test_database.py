import os
import sqlite3
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sls.tracking.active_run import tracked_run
from sls.tracking.artifacts import download, open_artifacts
from sls.tracking.database import PLACES, StoreError, move_places, require_open
from sls.tracking.store import connect, experiment_id


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("sqlite:///{tmp_path}/text.db", "text.db"),
        ("sqlite:///{tmp_path}", "database"),
        ("sqlite:////proc/nowhere/m.db", "database"),
        ("postgresql+psycopg2://anna:secret@127.0.0.1:9/runs", "127.0.0.1:9/runs"),
        ("mysql+nodriver://anna:secret@host/runs", "driver"),
        ("mysql+pymysql://anna:secret@host/runs", "driver"),
    ],
)
def test_a_database_that_does_not_open_is_named_within_seconds(tmp_path, monkeypatch, uri, found) -> None:
    (tmp_path / "text.db").write_text("no database at all")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path=tmp_path))
    started_s = time.monotonic()
    with pytest.raises((StoreError, IsADirectoryError)) as error:
        connect()
    # MLflow itself tries for more than a minute and a half.
    assert time.monotonic() - started_s < 60
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)
    assert found in str(error.value) or str(tmp_path) in str(error.value)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_store_that_cannot_be_written_to_is_named(store, tmp_path, monkeypatch, is_new: bool) -> None:
    database = tmp_path / "new.db" if is_new else store
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(StoreError, match=f"{database.name} .*MLFLOW_TRACKING_URI"):
        require_open(f"sqlite:///{database}")
    assert is_new != database.exists()


def make_run(kind: str = "train") -> str:
    with tracked_run(kind) as run:
        run.log_text("x", "notes/x.txt")
    return run.run_id


@pytest.fixture
def moved(store, tmp_path, monkeypatch) -> tuple[str, Path, Path]:
    """A finished run in a store that was moved since; the old directory, and the new one."""
    old, new = tmp_path / "old_1", tmp_path / "new"
    old.mkdir()
    store.rename(old / "m.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old / 'm.db'}")
    run_id = make_run()
    old.rename(new)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{new / 'm.db'}")
    return run_id, old, new


@pytest.mark.parametrize(
    "use",
    [
        lambda run_id: make_run(),
        lambda run_id: download(f"runs:/{run_id}/notes"),
        lambda run_id: open_artifacts(connect(), connect().get_run(run_id).info.artifact_uri),
        lambda run_id: experiment_id(connect()),
    ],
)
def test_a_moved_store_names_the_place_that_is_gone_and_makes_nothing_there(moved, use) -> None:
    run_id, old, _ = moved
    with pytest.raises(StoreError, match=f"{old}.*docs/server.md"):
        use(run_id)
    assert not old.exists()


def test_artifacts_that_were_moved_alone_are_missed_too(moved, monkeypatch) -> None:
    _, old, new = moved
    new.rename(old)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old / 'm.db'}")
    (old / "mlruns").rename(old / "elsewhere")
    with pytest.raises(StoreError, match="mlruns"):
        make_run()
    assert not (old / "mlruns").exists()


def test_a_place_is_moved_by_its_beginning_once_it_is_asked_for(moved) -> None:
    run_id, old, new = moved
    uri = f"sqlite:///{new / 'm.db'}"
    beside = str(old).removesuffix(
        "_1"
    )  # a beginning of the name, and a pattern of SQL, but another directory
    for wrong in (beside, str(old).replace("_", "x"), str(old / "mlruns" / "xlsr")):
        assert sum(count for _, count in move_places(uri, wrong, str(new), is_dry=False)) == 0
    expected = {"experiments.artifact_location": 1, "runs.artifact_uri": 1}
    for is_dry in (True, False):
        found = dict(move_places(uri, str(old), str(new), is_dry=is_dry))
        assert {name: count for name, count in found.items() if count} == expected
        assert len(found) == len(PLACES)
    assert (download(f"runs:/{run_id}/notes") / "x.txt").read_text() == "x"
    assert make_run()
    assert not old.exists()


def test_paths_are_moved_as_addresses_are(store, tmp_path) -> None:
    connect()
    with sqlite3.connect(store) as database:
        database.execute("update experiments set artifact_location = '/was/here/0'")
    assert sum(count for _, count in move_places(f"sqlite:///{store}", "/was/here", "/is", is_dry=False)) == 1
    assert MlflowClient().get_experiment("0").artifact_location == "/is/0"


def test_a_server_has_no_places_of_its_own() -> None:
    with pytest.raises(StoreError, match="http://x"):
        list(move_places("http://x", "/a", "/b", is_dry=True))


def test_artifacts_that_never_were_are_no_place_that_is_gone(store) -> None:
    run_id = make_run()
    with pytest.raises(MlflowException):
        download(f"runs:/{run_id}/nothing")


def test_a_deleted_experiment_says_how_to_restore_it(store) -> None:
    make_run()
    number = experiment_id(connect())
    MlflowClient().delete_experiment(number)
    with pytest.raises(StoreError, match=rf"mlflow experiments restore --experiment-id {number}\b"):
        make_run()


@pytest.mark.parametrize("name", ["../up", "..", "a/b", "/etc/x", "100 %", "plain name"])
def test_no_name_of_an_experiment_leads_out_of_the_store(store, monkeypatch, name: str) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    make_run()
    (found,) = store.parent.rglob("x.txt")
    assert found.relative_to(store.parent / "mlruns").parts[2:] == ("artifacts", "notes", "x.txt")
