"""What a training run records of its steps and epochs, whether it goes on or not, and which weights it keeps."""

import copy
import time
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from sls.config_file import build_config
from sls.engine.training.results import EpochResult, StepResult
from sls.files import scratch_directory
from sls.models.checkpoints import build_countermeasure, load_checkpoint
from sls.models.countermeasure import Countermeasure
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.checkpoints import checkpoints_of, has_weights, resolve_model
from sls.tracking.run import TrackedRun
from sls.tracking.training.recorder import Past, TrainingRecorder

NUM_SAMPLES = 8_000


@cache
def tiny_model() -> Countermeasure:
    return build_countermeasure("random:tiny", NUM_SAMPLES, 3)


class FakeRun(SimpleNamespace):
    """Takes in what is recorded, and states into nowhere."""

    def __init__(self, **calls: object) -> None:
        super().__init__(run_id="r", staging=scratch_directory, **calls)

    def keep_state(self, *state: object) -> None:
        """It is kept nowhere."""


def make_recorder(
    run: TrackedRun | FakeRun, past: Past | None = None, **settings: object
) -> TrainingRecorder:
    training = SimpleNamespace(
        config=build_config({"monitor": "val_loss", "validation": "dev", "save_every_steps": 0, **settings}),
        model=tiny_model(),
        accelerator=SimpleNamespace(is_main_process=True, num_processes=1),
        progress=SimpleNamespace(epoch=0, batch=0),
        save=lambda directory, with_weights: (directory / "state.pt").touch(),
    )
    return TrainingRecorder(run, training, "demo", {"train": None, "val": None}, past or Past())


def an_epoch(epoch: int, train_loss: float, val_loss: float) -> EpochResult:
    return EpochResult(epoch, {"train/loss": train_loss, "val/loss": val_loss}, False, False, tiny_model())


def test_the_loss_of_every_so_many_steps_is_recorded_once() -> None:
    points: list[tuple[dict[str, float], int]] = []
    run = FakeRun(log_metrics=lambda metrics, step: points.append((metrics, step)))
    recorder = make_recorder(run, Past({"train/step_loss": frozenset({5})}), log_every_steps=3)
    for step in range(10):
        recorder.after_step(StepResult(0, step, 100, step / 10))
    assert points == [({"train/step_loss": 0.2}, 2), ({"train/step_loss": 0.8}, 8)]


def test_an_epoch_is_recorded_with_its_checkpoint(store) -> None:
    with tracked_run("train") as run:
        recorder = make_recorder(run, recipe="v2", sample_rate=8_000)
        recorder.datasets = {
            name: run.log_dataset_of("protocol", name, {}, f"demo-{name}", "training")
            for name in ("train", "val")
        }
        for epoch, losses in enumerate([(0.5, 0.7), (0.3, 0.9)]):
            recorder.record(an_epoch(epoch, *losses))
    models = checkpoints_of(run.client, run.client.get_run(run.run_id))
    assert {epoch: model.model_id for epoch, model in models.items()} == recorder.handles_by_epoch
    assert models[1].tags.items() >= {"recipe": "v2", "corpus": "demo"}.items()
    for name, values in (("train/loss", [0.5, 0.3]), ("val/loss", [0.7, 0.9])):
        points = run.client.get_metric_history(run.run_id, name)
        assert [(point.step, point.value) for point in points] == list(enumerate(values))
    found = [(item.key, item.value, item.dataset_name) for item in models[1].metrics]
    assert sorted(found) == [("train/loss", 0.3, "demo-train"), ("val/loss", 0.9, "demo-val")]
    info = load_checkpoint(resolve_model(run.client, f"runs:/{run.run_id}/epoch_1").path).info
    assert (info.epoch, info.recipe, info.run_id) == (1, "v2", run.run_id)
    assert (info.num_samples, info.sample_rate_hz) == (NUM_SAMPLES, 8_000)
    assert info.config["recipe"] == "v2"
    assert info.provenance == {"corpus": "demo"}


def test_what_was_recorded_before_a_resume_stands() -> None:
    points: list[tuple[object, ...]] = []
    run = FakeRun(log_metrics=lambda *arguments: points.append(arguments))
    # Stopped between the metrics of the training and those of the validation.
    past = Past({"train/loss": frozenset({0, 1}), "val/loss": frozenset({0})}, {0: "a", 1: "b"}, {0: 0.7})
    recorder = make_recorder(run, past, keep="all")
    for result in (an_epoch(0, 0.51, 0.71), an_epoch(1, 0.31, 0.91)):
        recorder.record(result)
    assert points == [({"val/loss": 0.91}, 1, "b", None)]
    assert recorder.losses_by_epoch == {0: 0.7, 1: 0.91}
    assert past.losses_by_epoch == {0: 0.7}


@pytest.mark.parametrize(("keep", "kept"), [("all", [0, 1, 2, 3]), ("best_and_last", [1, 3]), ("best", [1])])
def test_weights_are_kept_as_set(keep: str, kept: list[int]) -> None:
    deleted: list[str] = []
    run = FakeRun(delete_checkpoint=deleted.append, log_metrics=lambda *arguments: None)
    handles = {epoch: f"m-{epoch}" for epoch in range(4)}
    recorder = make_recorder(run, Past({}, handles, {0: 0.7, 1: 0.4, 2: 0.4}), keep=keep)
    recorder.record(an_epoch(3, 0.5, 0.5))
    assert sorted(recorder.handles_by_epoch) == kept
    assert deleted == [handles[epoch] for epoch in range(4) if epoch not in kept]


def test_the_monitored_loss_chooses_the_earlier_of_equal_epochs() -> None:
    tags: dict[str, object] = {}
    run = FakeRun(set_tags=tags.update, log_metrics=lambda *arguments: None, renew_results=lambda: None)
    recorder = make_recorder(run, Past({}, {epoch: f"m-{epoch}" for epoch in range(3)}), keep="all")
    for epoch, losses in enumerate([(0.3, 0.7), (0.2, 0.4), (0.1, 0.4)]):
        recorder.record(an_epoch(epoch, *losses))
    assert recorder.choose().uri == "runs:/r/epoch_1"
    assert tags == {"chosen_epoch": 1, "chosen_by": "lowest val/loss"}


def a_model(value: float) -> Countermeasure:
    model = copy.deepcopy(tiny_model())
    torch.nn.init.constant_(model.classifier.fc3.bias, value)
    return model


def test_the_mean_of_the_best_epochs_is_chosen_with_their_weights_kept_and_not_made_twice(store) -> None:
    losses = (0.9, 0.4, 0.7, 0.5)
    with tracked_run("train") as run:
        # The first two were recorded before a resume, whose weights are those of their checkpoints.
        first = make_recorder(run, average=2)
        for epoch in (0, 1):
            result = replace(an_epoch(epoch, 0.1, losses[epoch]), model=a_model(2.0**epoch))
            first.record(result)
        past = Past({}, dict(first.handles_by_epoch), dict(first.losses_by_epoch))
        recorder = make_recorder(run, past, average=2)
        recorder.training.average = SimpleNamespace(result=tiny_model())
        for epoch in (1, 2, 3):
            recorder.record(replace(an_epoch(epoch, 0.1, losses[epoch]), model=a_model(10.0 * epoch)))
        trained = recorder.choose()
        again = replace(past, losses_by_epoch=recorder.losses_by_epoch, averages=["average_1_3"])
        assert make_recorder(run, again, average=2).choose() == trained
    assert (trained.epochs, trained.uri) == ((1, 3), f"runs:/{run.run_id}/average_1_3")
    found = resolve_model(run.client, f"runs:/{run.run_id}")
    assert (found.uri, found.epoch) == (trained.uri, "average_1_3")
    loaded = load_checkpoint(found.path)
    assert loaded.model.classifier.fc3.bias[0].item() == (2.0 + 30.0) / 2
    assert (loaded.info.epoch, loaded.info.provenance["average_of"]) == (None, "1, 3")
    model = run.client.get_logged_model(found.model_id)
    assert model.params["average_of"] == model.tags["average_of"] == "1, 3"
    named = run.client.search_logged_models([run.experiment_id], "name LIKE 'average%'")
    assert [item.name for item in named] == ["average_1_3"]
    models = checkpoints_of(run.client, run.client.get_run(run.run_id))
    assert [epoch for epoch, item in models.items() if has_weights(item)] == [1, 3]


@pytest.mark.parametrize("has_journal", [True, False])
def test_what_was_evaluated_before_the_choice_comes_with_it(store, has_journal: bool) -> None:
    with tracked_run("train", tags={"corpus": "mine"}, journal=has_journal) as run:
        recorder = make_recorder(run)
        for epoch, losses in enumerate([(0.5, 0.7), (0.3, 0.9)]):
            recorder.record(an_epoch(epoch, *losses))
        deadline = time.monotonic() + 30
        while len(models := checkpoints_of(run.client, run.client.get_run(run.run_id))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for epoch, eer_percent in enumerate((4.0, 9.0)):
            about = {"track": "LA", "corpus": "mine", "subset": "eval", "model_id": models[epoch].model_id}
            with tracked_run("evaluate", tags=about) as evaluation:
                evaluation.log_metrics({"LA/eer_percent": eer_percent})
        recorder.choose()
    found = run.client.get_run(run.run_id)
    assert (found.data.tags["chosen_epoch"], found.data.metrics["LA/eer_percent"]) == ("0", 4.0)
    assert found.info.status == "FINISHED"


def test_the_newest_checkpoint_that_is_kept_is_the_last_good_one() -> None:
    assert make_recorder(FakeRun()).last_good_checkpoint == "none, this is the first epoch"
    past = Past({}, {3: "m-3", 1: "m-1"})
    assert make_recorder(FakeRun(), past).last_good_checkpoint == "runs:/r/epoch_3"
