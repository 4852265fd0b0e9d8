"""System metrics: of which runs, by which processes, and while the tracking server is away."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from mlflow import MlflowClient
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

from sls.tracking.active_run import tracked_run
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.sender import send_journal
from sls.tracking.tags import WRITER_TAG

CPU = "system/cpu_utilization_percentage"
SAMPLES_S = 0.3
"""How long is waited for what must not come."""


@pytest.fixture
def switched_on(store, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")


def steps_of(run_id: str, name: str = CPU) -> list[int]:
    return [point.step for point in MlflowClient().get_metric_history(run_id, name)]


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("kind", "journal"), [("train", True), ("score", False)])
def test_a_run_records_what_its_machine_does(switched_on, kind: str, journal: bool) -> None:
    with tracked_run(kind, journal=journal) as run:
        wait_for(lambda: len(steps_of(run.run_id)) > 1)
    found = MlflowClient().get_run(run.run_id)
    assert {CPU, "system/system_memory_usage_megabytes"} <= set(found.data.metrics)
    steps = steps_of(run.run_id)
    assert steps == list(range(len(steps)))
    assert found.info.status == "FINISHED"


@pytest.mark.slow
def test_only_where_it_is_asked_for_and_the_machine_is_at_work(switched_on, monkeypatch) -> None:
    with tracked_run("evaluate") as evaluation:
        time.sleep(SAMPLES_S)
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
    with tracked_run("train", journal=True) as training:
        time.sleep(SAMPLES_S)
    for run in (evaluation, training):
        assert not MlflowClient().get_run(run.run_id).data.metrics


def test_a_resumed_run_goes_on_with_its_steps(switched_on) -> None:
    with suppress(KeyboardInterrupt), tracked_run("train", journal=True) as run:
        wait_for(lambda: steps_of(run.run_id))
        raise KeyboardInterrupt
    before = steps_of(run.run_id)
    with tracked_run("train", journal=True, resume=run.run_id):
        wait_for(lambda: len(steps_of(run.run_id)) > len(before))
    steps = steps_of(run.run_id)
    assert steps == list(range(len(steps)))


def test_what_was_sampled_while_the_server_was_away_is_sent_later(switched_on, monkeypatch, caplog) -> None:
    home = MlflowClient().tracking_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("sls.tracking.sender.AWAY_PATIENCE_S", 0.0)
    with tracked_run("train", journal=True) as run:
        wait_for(lambda: any(CPU in entry.arguments.get("values", {}) for entry in run.journal.pending))
    assert not [record for record in caplog.records if record.name == "sls.tracking.system_metrics"]
    (journal,) = find_journals()
    sent = send_journal(journal, home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home)
    assert steps_of(sent.run_id)


def test_a_monitor_that_fails_is_one_warning_and_the_run_finishes(switched_on, monkeypatch, caplog) -> None:
    def fail(monitor: CPUMonitor) -> None:
        raise RuntimeError("the library is out of order")

    monkeypatch.setattr(CPUMonitor, "collect_metrics", fail)
    with caplog.at_level(logging.WARNING), tracked_run("train", journal=True) as run:
        wait_for(lambda: "system metrics" in caplog.text)
    assert [record.getMessage() for record in caplog.records if "system metrics" in record.getMessage()] == [
        "system metrics are no longer recorded: the library is out of order"
    ]
    assert MlflowClient().get_run(run.run_id).info.status == "FINISHED"
    assert "Traceback" not in caplog.text


def test_a_wrong_interval_is_one_warning(switched_on, monkeypatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "often")
    with tracked_run("train", journal=True) as run:
        pass
    assert caplog.text.count("system metrics are not recorded") == 1
    assert MlflowClient().get_run(run.run_id).info.status == "FINISHED"


def test_further_processes_of_a_machine_stay_silent_and_further_machines_have_a_name(
    switched_on, monkeypatch
) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    launch = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    for rank in ("3", "2"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", str(int(rank) - 2))
        assert not MlflowClient().get_run(run_id).data.metrics
        with tracked_run("train", journal=True) as run:
            run.run_id = run_id
            if rank == "3":
                time.sleep(SAMPLES_S)
            else:
                wait_for(lambda: MlflowClient().get_run(run_id).data.metrics)
    found = MlflowClient().get_run(run_id)
    assert "system/node_1/cpu_utilization_percentage" in found.data.metrics
    assert CPU not in found.data.metrics
    assert WRITER_TAG not in found.data.tags
