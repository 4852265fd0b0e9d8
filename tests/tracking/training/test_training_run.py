import math
import re

import mlflow
import pytest
import torch
from mlflow.exceptions import MlflowException

from sls.config import ComputeConfig, DataConfig
from sls.config_file import build_config
from sls.data.corpora.corpus import open_corpus
from sls.engine.training.results import EpochResult
from sls.models.checkpoints import load_checkpoint
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.checkpoints import resolve_model
from sls.tracking.training.training_run import load_trials, resumed_config, track_training
from tests.servers import Gateway


@pytest.mark.parametrize("is_augmented", [False, True])
def test_validation_trials_are_never_cropped_at_random_and_augmented_only_if_set(
    store, small_corpus, is_augmented: bool
) -> None:
    config = build_config(
        {
            "random_crop": True,
            "validation": "dev",
            "validation_rawboost": is_augmented,
            "data_root": str(small_corpus),
        }
    )
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    with tracked_run("train") as run:
        train, _ = load_trials(run, corpus, config, "train", "training")
        validation, data = load_trials(run, corpus, config, "dev", "validation")
    assert train.audio.random_crop
    assert train.rawboost == config.rawboost
    assert not validation.audio.random_crop
    assert validation.rawboost == (config.rawboost if is_augmented else None)
    assert data.name == "demo-dev"


@pytest.mark.slow
def test_loss_that_is_not_finite_names_the_last_good_checkpoint(store, small_corpus) -> None:
    config = build_config(
        {
            "xlsr_model": "random:tiny",
            "audio_max_len": 8_000,
            "batch_size": 4,
            "num_workers": 0,
            "device": "cpu",
            "num_epochs": 3,
            "data_root": str(small_corpus),
        }
    )

    def break_after_the_first_epoch(epoch: EpochResult) -> None:
        with torch.no_grad():
            for weights in epoch.model.parameters():
                weights.fill_(math.nan)

    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    with pytest.raises(FloatingPointError) as caught, tracked_run("train") as run:
        track_training(run, config, corpus, on_epoch=break_after_the_first_epoch)
    message = str(caught.value)
    assert re.search(r"epoch 1, step 0; trials .*: ", message)
    assert message.endswith(f" runs:/{run.run_id}/epoch_0")
    ended = run.client.get_run(run.run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["error"] == message
    assert resolve_model(run.client, f"runs:/{run.run_id}/epoch_0").path.is_file()


@pytest.fixture
def run_id(store) -> str:
    """A training run that has recorded its configuration alone."""
    with tracked_run("train") as run:
        run.log_config(build_config({"lr": 1e-3, "num_workers": 3}))
    return run.run_id


def test_a_resumed_training_may_lie_and_work_elsewhere(run_id: str) -> None:
    places = {
        "data_root": "/elsewhere",
        "tracks": "tracks.yaml",
        "device": "cpu",
        "num_workers": "0",
        "eval_batch_size": "4",
        "max_failures": "1",
    }
    config = resumed_config(run_id, places)
    assert config.optimizer.lr == 1e-3
    assert config.data == DataConfig("/elsewhere", "tracks.yaml")
    assert config.compute == ComputeConfig("cpu", 0, 4, max_failures=1)


@pytest.mark.slow
def test_a_resumed_training_keeps_what_decides_its_losses(run_id: str) -> None:
    refused = {"precision": "bf16", "compile": "true", "backend": "fairseq", "lr": "1e-4"}
    began = {"precision": "fp32", "compile": "False", "backend": "torchaudio", "lr": "0.001"}
    for name, value in refused.items():
        with pytest.raises(ValueError, match=f"^{name}: found .* beside resume, expected {began[name]},"):
            resumed_config(run_id, {name: value})
    # Typed once more, it changes nothing.
    assert resumed_config(run_id, {"precision": "fp32", "lr": "1e-3"}) == resumed_config(run_id, {})


@pytest.mark.parametrize("fault", ["html404", "json404", "login", "empty"])
def test_gateway_does_not_say_that_a_run_has_no_configuration(store, monkeypatch, fault: str) -> None:
    gateway = Gateway(9)
    gateway.disturb(fault, 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gateway.uri)
    with pytest.raises(MlflowException, match=r"API request|no Route"):
        resumed_config("a" * 32, {})
    gateway.close()
    mlflow.set_tracking_uri(None)


def test_run_without_a_configuration_is_no_training(store) -> None:
    with tracked_run("score") as run:
        pass
    for run_id in (run.run_id, "a" * 32):
        with pytest.raises(ValueError, match=rf"resume: .*{run_id}"):
            resumed_config(run_id, {})


class Stopped(Exception):
    """A test stops a training."""


@pytest.mark.slow
def test_the_mean_of_the_best_epochs_is_the_same_after_a_stop(store, small_corpus) -> None:
    values = {
        "xlsr_model": "random:tiny",
        "audio_max_len": 8_000,
        "batch_size": 4,
        "num_workers": 0,
        "device": "cpu",
        "num_epochs": 3,
        "patience": 3,
        "lr": 1e-4,
        "average": 2,
        "data_root": str(small_corpus),
    }
    config, corpus = build_config(values), open_corpus(DataConfig(data_root=str(small_corpus)))

    def stop_after_the_second(epoch: EpochResult) -> None:
        if epoch.epoch == 1:
            raise Stopped

    with tracked_run("train") as whole:
        expected = track_training(whole, config, corpus)
    with pytest.raises(Stopped), tracked_run("train") as run:
        track_training(run, config, corpus, on_epoch=stop_after_the_second)
    with tracked_run("train", resume=run.run_id) as run:
        found = track_training(run, config, corpus, resume=run.run_id)
    assert (found.epochs, found.rule) == (expected.epochs, expected.rule)
    assert len(found.epochs) == 2
    one, two = (
        load_checkpoint(resolve_model(run.client, item.uri).path).model.state_dict()
        for item in (expected, found)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
