import math

import pytest
import torch

from sls.config import DataConfig
from sls.config_file import build_config
from sls.data.corpora.corpus import open_corpus
from sls.engine.training.results import EpochResult
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.checkpoints import resolve_model
from sls.tracking.training.training_run import load_trials, track_training


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
    assert "epoch 1, step 0; trials of the batch: " in message
    assert message.endswith(f"last good checkpoint: runs:/{run.run_id}/epoch_0")
    ended = run.client.get_run(run.run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["error"] == message
    assert resolve_model(run.client, f"runs:/{run.run_id}/epoch_0").path.is_file()
