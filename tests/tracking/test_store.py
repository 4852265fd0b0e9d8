import os
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from sls.tracking.active_run import tracked_run
from sls.tracking.registry.lineage import read_lineage
from sls.tracking.store import (
    NEWEST_FIRST,
    connect,
    experiment_id,
    find_first_run,
    find_runs,
    require_answer,
    tagged,
)
from tests.servers import Gateway

NUM_PROCESSES = 4
# MLflow is imported once, as that takes seconds, and then opened by every process at the same moment.
OPENERS = f"""
import os
from sls.tracking.store import connect, experiment_id
reader, writer = os.pipe()
for _ in range({NUM_PROCESSES}):
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        os.write(1, f"experiment {{experiment_id(connect())}}, ".encode())
        os._exit(0)
os.close(writer)
for _ in range({NUM_PROCESSES}):
    os.wait()
"""


@pytest.mark.slow
def test_several_processes_open_a_new_store_at_once(tmp_path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    command = [sys.executable, "-c", OPENERS]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert found.stdout == "experiment 1, " * NUM_PROCESSES, found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_is_opened_where_no_lock_can_be_made(store) -> None:
    store.with_name(f"{store.name}.lock").mkdir()
    assert experiment_id(connect()) == "1"


def test_runs_are_found_page_by_page_and_by_tags_with_quotation_marks(store) -> None:
    client = connect()
    experiment = experiment_id(client)
    made = [
        client.create_run(experiment, start_time=number, tags={"corpus": corpus}).info.run_id
        for number, corpus in enumerate(["o'clock", "other", "o'clock", "o'clock"], start=1)
    ]
    found = find_runs(client, tagged(corpus="o'clock"), order_by=["attributes.start_time DESC"], page_size=2)
    assert [run.info.run_id for run in found] == [made[3], made[2], made[0]]
    assert find_first_run(client, tagged(corpus="none"), experiments=[experiment]) is None


def test_store_that_has_not_the_run_of_mlflow_run_is_refused(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", connect().create_run("0").info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}?timeout=60")
    assert connect().search_experiments()
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store.name}")
    with pytest.raises(
        ValueError, match=f"MLFLOW_TRACKING_URI: found no {tmp_path}/clone/{store.name}, expected"
    ):
        connect()
    assert not list((tmp_path / "clone").iterdir())


def test_the_last_that_ended_is_the_newest_whatever_the_clocks_say(store, monkeypatch) -> None:
    """Clocks step back, and those of two machines do not agree."""
    run_ids, now = [], time.time
    earlier = MlflowClient().create_run("0", tags={"kind": "score", "model_id": "m-1"}).info.run_id
    MlflowClient().set_terminated(earlier)  # not by a run of ours
    for jump_s in (0, -7_200, 3_600, -90):
        with monkeypatch.context() as patches:
            patches.setattr(time, "time", lambda jump_s=jump_s: now() + jump_s)
            with tracked_run("score", tags={"model_id": "m-1"}, journal=jump_s > 0) as run:
                pass
        run_ids.append(run.run_id)
        assert find_first_run(run.client, order_by=NEWEST_FIRST).info.run_id == run.run_id
    with tracked_run("score", tags={"model_id": "m-1"}) as under_way:
        lineage = read_lineage(under_way.client, "m-1", "")
    assert [run.info.run_id for run in lineage.runs] == [earlier, *run_ids, under_way.run_id]
    # What is done again changes nothing.
    under_way.end("FINISHED")
    assert find_first_run(under_way.client, order_by=NEWEST_FIRST).data.tags["ended_as"] == f"{5:012d}"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refused", "503", "login", "drop", "hang"])
def test_a_server_that_is_no_server_is_told_in_one_line_and_soon(store, monkeypatch, fault: str) -> None:
    gateway = Gateway(9, hang_s=3)
    gateway.disturb(fault, 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gateway.uri.replace("//", "//user:secret@"))
    if fault == "hang":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if fault == "refused":
        gateway.close()
    with pytest.raises(ConnectionError) as caught:
        require_answer(os.environ["MLFLOW_TRACKING_URI"])
    assert f"at {gateway.uri.removeprefix('http://')}: " in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert gateway.num_requests == (fault != "refused")
    with pytest.raises(ConnectionError), tracked_run("score"):
        pytest.fail("the block ran")
    if fault != "refused":
        gateway.close()
