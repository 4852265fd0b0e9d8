"""A training run bears the results of the epoch that it chose; what was made of its checkpoints stands below it."""

import math

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from sls.tracking.active_run import tracked_run
from sls.tracking.registry.lineage import Place
from sls.tracking.registry.parent_run import (
    bear_figures,
    name_place,
    place_under_origin,
    renew_results,
)
from sls.tracking.run import is_made_up
from sls.tracking.store import connect
from sls.tracking.tags import DECISIONS_TAG, PARENT_TAG, ROBUSTNESS_TAG, robustness_metric


@pytest.fixture
def client(store) -> MlflowClient:
    return connect()


def make_origin(
    client: MlflowClient, kind: str = "train", chosen: str = "1", **tags: str
) -> tuple[str, list[str]]:
    """A run that made two checkpoints, of epochs 0 and 1; returns its id and theirs."""
    chose = {"chosen_epoch": chosen} if chosen else {}
    run_id = client.create_run("0", tags={"kind": kind, **chose, **tags}, run_name=f"{kind} v1").info.run_id
    models = []
    for epoch in (0, 1):
        name = f"epoch_{epoch}"
        model = client.create_logged_model("0", name, run_id, {"epoch": str(epoch)}, model_type="checkpoint")
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, epoch)])
        models.append(model.model_id)
    return run_id, models


def evaluate(client: MlflowClient, model_id: str, eer_percent: float, track: str = "LA", **tags: str) -> str:
    """A finished evaluation of a checkpoint."""
    about = {"kind": "evaluate", "track": track, "corpus": "mine", "subset": "eval", "model_id": model_id}
    run_id = client.create_run("0", tags={**about, **tags}).info.run_id
    client.log_metric(run_id, f"{track}/eer_percent", eer_percent)
    client.log_metric(run_id, f"{track}/eer_percent_low", eer_percent - 1)
    client.set_terminated(run_id)
    return run_id


def test_chosen_epoch_brings_its_figures_to_the_training_run(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    other = evaluate(client, models[0], 30.0)
    renew_results(client, run_id)
    assert "LA/eer_percent" not in client.get_run(run_id).data.metrics
    first = evaluate(client, models[1], 4.0)
    renew_results(client, run_id)
    found = client.get_run(run_id).data
    assert found.metrics == {"LA/eer_percent": 4.0, "LA/eer_percent_low": 3.0}
    assert found.tags["evaluated_by.LA"] == first != other
    below = client.search_runs(["0"], "metrics.\"LA/eer_percent\" < 40 and tags.kind = 'train'")
    assert [run.info.run_id for run in below] == [run_id]
    hits = client.search_runs(["0"], "tags.kind = 'train' and metrics.`LA/eer_percent` < 5")
    assert [run.info.run_id for run in hits] == [run_id]


def test_decisions_of_the_chosen_epoch_stand_until_another_is_chosen(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    name = "LA/miss_percent_by_logistic_of_dev"
    bear_figures(client, DECISIONS_TAG, models[0], run_id, lambda origin: {name: 40.0})
    assert name not in client.get_run(run_id).data.metrics
    for value in (20.0, 25.0):
        bear_figures(client, DECISIONS_TAG, models[1], run_id, lambda origin, value=value: {name: value})
    for _ in range(2):  # the figures of LA are renewed, and the decisions stay
        evaluate(client, models[1], 4.0)
        renew_results(client, run_id)
    assert client.get_run(run_id).data.metrics[name] == 25.0
    client.set_tag(run_id, "chosen_epoch", "0")
    renew_results(client, run_id)
    found = client.get_run(run_id).data
    assert math.isnan(found.metrics[name])
    assert found.tags["decisions_of"] == ""


def test_losses_under_conditions_stand_by_place_until_another_epoch_is_chosen(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    places = {
        "LA": Place("mine", "LA", "eval", "fp32"),
        "LA.bf16": Place("mine", "LA", "eval", "bf16"),
        "other.LA": Place("other", "LA", "eval", "fp32"),
    }
    value = 4.0

    def bear(model_id: str, place: Place, value: float) -> None:
        def name_figure(origin: Run) -> dict[str, float]:
            return {robustness_metric(name_place(place, origin), "opus-16", "eer_diff_percent"): value}

        bear_figures(client, ROBUSTNESS_TAG, model_id, run_id, name_figure)

    bear(models[0], places["LA"], 9.0)
    for place in places.values():
        bear(models[1], place, value)
    names = {f"robustness/{name}/opus-16/eer_diff_percent" for name in places}
    assert client.get_run(run_id).data.metrics == dict.fromkeys(names, value)
    evaluate(client, models[1], 4.0)
    renew_results(client, run_id)
    assert client.get_run(run_id).data.metrics == {
        **dict.fromkeys(names, value),
        "LA/eer_percent": 4.0,
        "LA/eer_percent_low": 3.0,
    }
    client.set_tag(run_id, "chosen_epoch", "0")
    renew_results(client, run_id)
    found = client.get_run(run_id).data
    assert all(math.isnan(found.metrics[name]) for name in names)
    assert found.tags["robustness_of"] == ""


def test_newer_evaluation_takes_its_place_at_the_same_step(client: MlflowClient) -> None:
    """The UI draws bars of what has one step; the clock of another machine that is ahead changes nothing."""
    run_id, models = make_origin(client, corpus="mine")
    ahead_ms = 4_000_000_000_000
    client.log_metric(run_id, "LA/eer_percent", 9.0, timestamp=ahead_ms, step=0)
    for eer_percent in (4.0, 4.0, 3.5):
        evaluate(client, models[1], eer_percent)
        renew_results(client, run_id)
        renew_results(client, run_id)
    history = client.get_metric_history(run_id, "LA/eer_percent")
    found = sorted((point.timestamp, point.step, point.value) for point in history)
    assert found == [(ahead_ms + place, 0, value) for place, value in enumerate((9.0, 4.0, 4.0, 3.5))]
    assert client.get_run(run_id).data.metrics["LA/eer_percent"] == 3.5


@pytest.mark.parametrize(
    "tags",
    [
        {"not_comparable": "calibrated"},
        {"not_comparable": "subset progress", "subset": "progress"},
        {"not_comparable": "condition opus-16"},
    ],
)
def test_figure_that_does_not_compare_never_reaches_the_training_run(
    client: MlflowClient, tags: dict
) -> None:
    run_id, models = make_origin(client, corpus="mine")
    evaluate(client, models[1], 4.0)
    renew_results(client, run_id)
    evaluate(client, models[1], 1.0, **tags)
    renew_results(client, run_id)
    assert client.get_run(run_id).data.metrics["LA/eer_percent"] == 4.0


def test_another_corpus_or_precision_has_a_name_of_its_own(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    evaluate(client, models[1], 4.0)
    evaluate(client, models[1], 5.0, corpus="demo")
    evaluate(client, models[1], 6.0, precision="bf16")
    renew_results(client, run_id)
    eers = {
        name: value for name, value in client.get_run(run_id).data.metrics.items() if name.endswith("percent")
    }
    assert eers == {"LA/eer_percent": 4.0, "demo.LA/eer_percent": 5.0, "LA.bf16/eer_percent": 6.0}


def test_another_choice_takes_the_figures_with_it(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    for track in ("LA", "DF"):
        evaluate(client, models[1], 4.0, track)
    before = evaluate(client, models[0], 9.0)
    renew_results(client, run_id)
    client.log_metric(run_id, "DF/eer_percent_by_epoch", 4.0, step=1)
    client.set_tag(run_id, "chosen_epoch", "0")
    renew_results(client, run_id)
    found = client.get_run(run_id).data
    assert found.metrics["LA/eer_percent"] == 9.0
    assert found.tags["evaluated_by.LA"] == before
    assert math.isnan(found.metrics["DF/eer_percent"])
    assert found.metrics["DF/eer_percent_by_epoch"] == 4.0
    assert not client.search_runs(["0"], "tags.kind = 'train' and metrics.`DF/eer_percent` < 40")


def test_what_an_evaluation_does_not_have_does_not_stay_from_another(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    with_costs = evaluate(client, models[1], 4.0)
    client.log_metric(with_costs, "LA/min_tdcf", 0.27)
    client.log_metric(with_costs, "LA/auc", 0.9)
    renew_results(client, run_id)
    assert client.get_run(run_id).data.metrics["LA/min_tdcf"] == 0.27
    assert "LA/auc" not in client.get_run(run_id).data.metrics
    evaluate(client, models[1], 5.0)
    renew_results(client, run_id)
    assert math.isnan(client.get_run(run_id).data.metrics["LA/min_tdcf"])


def test_evaluation_that_ended_meanwhile_is_not_passed_over(client: MlflowClient, monkeypatch) -> None:
    run_id, models = make_origin(client, corpus="mine")
    evaluate(client, models[1], 5.0)
    log_batch = MlflowClient.log_batch

    def log_late(self: MlflowClient, *args, **options) -> None:
        monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
        evaluate(client, models[1], 4.0)
        renew_results(client, run_id)
        self.log_batch(*args, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", log_late)
    renew_results(client, run_id)
    assert client.get_run(run_id).data.metrics["LA/eer_percent"] == 4.0


def test_any_name_of_a_corpus_and_of_a_track_is_borne(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    evaluate(client, models[1], 4.0, "by_epoch_x", corpus="o'brien, 2")
    renew_results(client, run_id)
    [name] = [name for name in client.get_run(run_id).data.metrics if name.endswith("/eer_percent")]
    assert "brien" in name
    client.set_tag(run_id, "chosen_epoch", "0")
    renew_results(client, run_id)
    assert math.isnan(client.get_run(run_id).data.metrics[name])


def test_each_training_counts_once_where_runs_are_compared(client: MlflowClient) -> None:
    """Neither evaluations of before that stood by themselves, nor those of other epochs, stand beside it."""
    run_id, models = make_origin(client, corpus="mine")
    own = {"train_run_id": run_id}
    evaluated = [evaluate(client, models[epoch], 4.0, **own) for epoch in (1, 1, 0)]
    charted = evaluate(client, models[0], 4.0, epochs_run_id="0", **own)
    renew_results(client, run_id)
    assert [client.get_run(item).data.tags["figures_on"] for item in evaluated] == [run_id] * 3
    assert "figures_on" not in client.get_run(charted).data.tags
    imported, models = make_origin(client, "import_checkpoint")
    of_import = evaluate(client, models[1], 4.0, train_run_id=imported)
    renew_results(client, imported)
    assert "figures_on" not in client.get_run(of_import).data.tags


def test_import_is_the_row_of_what_it_brought(client: MlflowClient) -> None:
    run_id = client.create_run("0", tags={"kind": "import_checkpoint"}).info.run_id
    model = client.create_logged_model("0", "imported", run_id)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    evaluate(client, model.model_id, 2.14, corpus="asvspoof")
    evaluate(client, model.model_id, 20.0, corpus="demo")
    renew_results(client, run_id)
    metrics = client.get_run(run_id).data.metrics
    assert (metrics["LA/eer_percent"], metrics["demo.LA/eer_percent"]) == (2.14, 20.0)


@pytest.mark.parametrize("chosen", ["", "1"])
def test_training_without_choice_or_evaluation_bears_no_figure(client: MlflowClient, chosen: str) -> None:
    run_id, models = make_origin(client, chosen=chosen)
    if not chosen:
        evaluate(client, models[1], 4.0)
    renew_results(client, run_id)
    renew_results(client, "0" * 32)
    renew_results(client, "")
    assert not client.get_run(run_id).data.metrics


def test_run_that_one_may_only_read_costs_a_warning(client: MlflowClient, monkeypatch, caplog) -> None:
    run_id, models = make_origin(client, corpus="mine")
    evaluate(client, models[1], 4.0)

    def refuse(*args: object, **kwargs: object) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(client, "log_batch", refuse)
    renew_results(client, run_id)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert run_id in caplog.text
    assert "Permission denied" in caplog.text


def test_a_store_that_is_away_refuses_nothing(client: MlflowClient, monkeypatch) -> None:
    run_id, models = make_origin(client, corpus="mine")
    evaluate(client, models[1], 4.0)

    def fail(*args: object, **kwargs: object) -> None:
        raise MlflowException("API request failed with exception: connection refused")

    with monkeypatch.context() as away:
        away.setattr(client, "log_batch", fail)
        with pytest.raises(MlflowException):
            renew_results(client, run_id)
    renew_results(client, run_id)
    assert client.get_run(run_id).data.metrics["LA/eer_percent"] == 4.0


def test_old_training_keeps_its_evaluations_and_gets_figures_by_the_next_one(client: MlflowClient) -> None:
    run_id, models = make_origin(client, corpus="mine")
    old = evaluate(client, models[1], 4.0, recipe="v1")
    chart = evaluate(client, models[0], 9.0, recipe="v1", epochs_run_id="0")
    assert not client.get_run(run_id).data.metrics
    new = evaluate(client, models[1], 4.5, "DF", **{PARENT_TAG: run_id})
    renew_results(client, run_id)
    found = client.get_run(run_id).data
    assert (found.metrics["LA/eer_percent"], found.metrics["DF/eer_percent"]) == (4.0, 4.5)
    assert (found.tags["evaluated_by.LA"], found.tags["evaluated_by.DF"]) == (old, new)
    for run_of_before in (old, chart):
        assert PARENT_TAG not in client.get_run(run_of_before).data.tags


def test_scores_stand_below_their_training_by_a_telling_name(client: MlflowClient) -> None:
    origin, _ = make_origin(client)
    for tags, name in (
        ({"train_run_id": origin, "recipe": "v1", "epoch": "1"}, "score v1 LA"),
        ({"train_run_id": origin, "recipe": "v1", "epoch": "0"}, "score v1 epoch 0 LA"),
        ({"model": "weights/epoch_2.pth"}, "score epoch_2 LA"),
    ):
        with tracked_run("score") as run:
            assert client.get_run(run.run_id).info.run_name == "score"
            place_under_origin(run, "score", tags, "LA")
        found = client.get_run(run.run_id)
        assert found.info.run_name == name
        assert found.data.tags.get(PARENT_TAG) == tags.get("train_run_id")


def test_parent_and_name_that_a_person_gave_stay(client: MlflowClient, monkeypatch) -> None:
    origin, _ = make_origin(client)
    user = client.create_run("0").info.run_id
    launched = client.create_run("0", tags={PARENT_TAG: user}, run_name="thesis-figure-3").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    with tracked_run("score") as run:
        place_under_origin(run, "score", {"train_run_id": origin, "recipe": "v1"}, "LA")
    found = client.get_run(launched)
    assert run.run_id == launched
    assert (found.info.run_name, found.data.tags[PARENT_TAG]) == ("thesis-figure-3", user)


def test_name_that_mlflow_made_up_is_known(client: MlflowClient) -> None:
    assert is_made_up(client.create_run("0").info.run_name)
    assert not any(map(is_made_up, ("train v1", "my-bold-run", "bold-run-2", "")))
