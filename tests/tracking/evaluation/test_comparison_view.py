"""The view of the recipes side by side: what stands in it, and the link that opens it."""

import json

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sls.tracking.evaluation.comparison_view import (
    VIEW_TAG_PREFIX,
    Compared,
    find_newest_work,
    share_comparison,
    ui_address,
)
from sls.tracking.store import connect

EXPERIMENT = "0"


def record(start_time: int, kind: str, status: str = "FINISHED", **tags: str) -> str:
    """A run; those of a recipe stand in views."""
    client = connect()
    run_id = client.create_run(
        EXPERIMENT, start_time, {"kind": kind, **tags}, f"{kind} {start_time}"
    ).info.run_id
    client.set_terminated(run_id, status)
    return run_id


def shown(compared: Compared) -> list[str]:
    client = connect()
    link = share_comparison(client, EXPERIMENT, compared)
    assert f"viewStateShareKey={compared.key}&" in link
    view = json.loads(client.get_experiment(EXPERIMENT).tags[VIEW_TAG_PREFIX + compared.key])
    runs = client.search_runs([EXPERIMENT], view["searchFilter"], order_by=["attributes.start_time ASC"])
    return [run.info.run_name for run in runs]


def test_view_is_of_one_corpus_and_of_evaluations_that_compare(store) -> None:
    of_v1 = {"recipe": "v1", "corpus": "Kim's"}
    record(1, "train", **of_v1)
    record(2, "score", **of_v1)
    record(3, "evaluate", **of_v1)
    record(4, "evaluate", **of_v1, not_comparable="subset progress")
    record(5, "evaluate", **of_v1, epochs_run_id="0")
    record(6, "evaluate", recipe="v1", corpus="demo")
    record(7, "score-shard", **of_v1)
    record(7, "robustness", **of_v1)
    record(8, "evaluate", **of_v1, figures_on="0")
    assert shown(Compared("Kim's")) == ["train 1", "evaluate 3"]
    assert shown(Compared("demo")) == ["evaluate 6"]
    assert Compared("Kim's").key == "recipes-Kim_s"


def test_columns_are_the_parameters_that_differ_and_the_results(store) -> None:
    client = connect()
    for recipe, patience in (("v1", "1"), ("v2", "10")):
        run_id = record(1, "train", recipe=recipe, corpus="demo")
        for name, value in (("cfg/patience", patience), ("cfg/seed", "1234")):
            client.log_param(run_id, name, value)
        for name in ("DF/eer_percent", "DF/eer_percent_low", "train/loss"):
            client.log_metric(run_id, name, 1.0)
    share_comparison(client, EXPERIMENT, Compared("demo"))
    view = json.loads(client.get_experiment(EXPERIMENT).tags[VIEW_TAG_PREFIX + "recipes-demo"])
    assert view["selectedColumns"] == ["params.`cfg/patience`", "metrics.`DF/eer_percent`"]


def test_view_of_an_experiment_holds_its_own_runs(store) -> None:
    main = record(1, "main", corpus="demo")
    record(2, "train", recipe="v1", corpus="demo", main_run_id=main)
    record(3, "train", recipe="v1", corpus="demo")
    assert shown(Compared("demo", main)) == ["train 2"]


def test_newest_work_is_the_whole_experiment_until_a_door_adds_to_it(store) -> None:
    assert find_newest_work(connect(), EXPERIMENT) is None
    main = record(1, "main", corpus="demo")
    record(2, "train", recipe="v1", corpus="demo", main_run_id=main)
    record(3, "import_checkpoint", recipe="v1")
    assert find_newest_work(connect(), EXPERIMENT) == Compared("demo", main)
    record(4, "train", recipe="v1", corpus="asvspoof")
    record(5, "evaluate", "FAILED", recipe="v1", corpus="demo")
    assert find_newest_work(connect(), EXPERIMENT) == Compared("asvspoof")


def test_an_experiment_that_failed_is_not_led_to(store) -> None:
    main = record(1, "main", "FAILED", corpus="demo")
    record(2, "train", recipe="v1", corpus="demo", main_run_id=main)
    assert find_newest_work(connect(), EXPERIMENT) == Compared("demo")


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:///mlflow.db", "http://127.0.0.1:5001"),
        ("http://server:8080/", "http://server:8080"),
        ("https://user:secret@server/mlflow", "https://server/mlflow"),
    ],
)
def test_ui_is_at_the_server_and_its_link_tells_no_password(uri: str, address: str) -> None:
    assert ui_address(uri, 5001) == address


@pytest.mark.parametrize("refused", ["search_runs", "set_experiment_tag"])
def test_store_that_refuses_the_view_costs_a_warning_of_one_line(store, monkeypatch, caplog, refused) -> None:
    """As of an experiment that one may only read."""
    record(1, "train", recipe="v1", corpus="demo")
    client = connect()

    def refuse(*arguments: object, **options: object) -> None:
        raise MlflowException("Permission\ndenied")

    monkeypatch.setattr(client, refused, refuse)
    for compared in (Compared("demo"), None):
        assert share_comparison(client, EXPERIMENT, compared) == "http://127.0.0.1:5000/#/experiments/0/runs"
    assert [item.levelname for item in caplog.records] == ["WARNING"] * 2
    assert all(message.endswith(": Permission denied") for message in caplog.messages)


def test_link_without_anything_to_compare_is_to_all_runs(store, caplog) -> None:
    assert share_comparison(connect(), EXPERIMENT) == "http://127.0.0.1:5000/#/experiments/0/runs"
    assert not caplog.records


def test_link_is_to_the_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient("http://user:secret@server:8080")
    monkeypatch.setattr(client, "set_experiment_tag", lambda *arguments: None)
    monkeypatch.setattr(client, "search_runs", lambda *arguments, **options: [])
    link = share_comparison(client, "1", Compared("demo"))
    assert link.startswith("http://server:8080/#/experiments/1/runs?viewStateShareKey=recipes-demo&")
