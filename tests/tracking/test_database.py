import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from entrypoints.move_store import move_store
from entrypoints.sync import sync
from sls.tracking.active_run import tracked_run
from sls.tracking.artifacts import download, open_artifacts
from sls.tracking.database import StoreError, move_places, require_open
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.sender import send_journal
from sls.tracking.store import connect, experiment_id


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("sqlite:///{tmp_path}/text.db", "found .*text.db, expected a SQLite database"),
        ("sqlite:///{tmp_path}", "found the directory .*, expected a SQLite database"),
        ("sqlite:////proc/nowhere/m.db", "/proc/nowhere/m.db"),
        ("postgresql+psycopg2://anna:secret@127.0.0.1:9/runs", "127.0.0.1:9/runs does not answer"),
        ("mysql+nodriver://anna:secret@host/runs", "host/runs needs a driver .*mysql.nodriver"),
        ("mysql+pymysql://anna:secret@host/runs", "host/runs needs a driver .*pymysql"),
    ],
)
def test_a_database_that_does_not_open_is_named_within_seconds(tmp_path, monkeypatch, uri, found) -> None:
    (tmp_path / "text.db").write_text("no database at all")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path=tmp_path))
    started_s = time.monotonic()
    with pytest.raises(StoreError, match=found) as error:
        connect()
    # MLflow itself tries for more than a minute and a half.
    assert time.monotonic() - started_s < 30
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)


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
        assert len(found) == 5
    assert (download(f"runs:/{run_id}/notes") / "x.txt").read_text() == "x"
    assert make_run()
    assert not old.exists()


def test_a_store_that_moved_into_itself_is_told_once(store) -> None:
    connect()
    with sqlite3.connect(store) as database:
        database.execute("update experiments set artifact_location = '/x/mlruns/0'")
    counts = [
        sum(count for _, count in move_places(f"sqlite:///{store}", "/x", "/x/in", is_dry=False))
        for _ in range(2)
    ]
    assert counts == [1, 0]
    assert MlflowClient().get_experiment("0").artifact_location == "/x/in/mlruns/0"


@pytest.mark.parametrize("content", [None, "empty", "another"])
def test_what_is_no_tracking_database_is_not_moved(tmp_path, content: str | None) -> None:
    path = tmp_path / "m.db"
    if content:
        path.touch()
    if content == "another":
        with sqlite3.connect(path) as database:
            database.execute("create table other (x)")
    with pytest.raises(StoreError, match="m.db"):
        list(move_places(f"sqlite:///{path}", "/a", "/b", is_dry=False))
    assert path.exists() == bool(content)


@pytest.mark.parametrize(("text", "count"), [("", 1), ("false", 1), ("true", 0)])
def test_the_door_writes_where_it_is_told_to(moved, text: str, count: int) -> None:
    _, old, new = moved
    options = ["--old", f"{old}/", "--new", str(new), *(["--apply", text] if text else [])]
    ended = CliRunner().invoke(move_store, options)
    assert ended.exit_code == 0
    assert ("Written." in ended.output) == (text == "true")
    left = dict(move_places(f"sqlite:///{new / 'm.db'}", str(old), str(new), is_dry=True))
    assert left["runs.artifact_uri"] == count


@pytest.mark.parametrize(
    "options", [[], ["--old", "a", "--new", "/tmp"], ["--old", "/a", "--new", "/nowhere"]]
)
def test_the_door_asks_for_two_whole_paths(store, options: list[str]) -> None:
    ended = CliRunner().invoke(move_store, options)
    assert ended.exit_code == 2


def test_a_journal_of_a_store_that_is_gone_keeps_all_of_it(tmp_path, store, monkeypatch) -> None:
    monkeypatch.setenv("SLS_JOURNAL_DIR", str(tmp_path / "journal"))
    with monkeypatch.context() as away, suppress(Exception):
        away.setattr(
            MlflowClient, "log_batch", lambda *given, **named: (_ for _ in ()).throw(ConnectionError)
        )
        away.setattr("sls.tracking.sender.AWAY_PATIENCE_S", 0.1)
        with tracked_run("train", journal=True) as run:
            run.log_metrics({"train/loss": 1.0})
    (path,) = find_journals()
    store.rename(tmp_path / "moved.db")
    ended = CliRunner().invoke(sync)
    assert ended.exit_code == 1
    assert not store.exists()
    sent = send_journal(path, f"sqlite:///{tmp_path / 'moved.db'}")
    assert sent.num_refused == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'moved.db'}")
    found = connect().get_run(sent.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"train/loss": 1.0})


def test_an_experiment_of_other_tools_that_keep_no_files_is_used(store) -> None:
    client = connect()
    number = experiment_id(client)
    run = client.create_run(number)
    client.set_terminated(run.info.run_id)
    assert experiment_id(client) == number


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
