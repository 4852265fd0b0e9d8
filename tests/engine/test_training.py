import math
from pathlib import Path

import pytest
import torch

from sls.config import ComputeConfig, Config
from sls.config_file import build_config
from sls.data.dataset import TrialDataset
from sls.data.tracks import load_tracks
from sls.engine.processes import open_accelerator
from sls.engine.training import EpochResult, Training
from sls.engine.validation import validate
from sls.models.checkpoints import build_countermeasure

CPU = ComputeConfig(device="cpu")
NUM_SAMPLES = 16_000


def config(**values: object) -> Config:
    tiny = {
        "device": "cpu",
        "audio_max_len": NUM_SAMPLES,
        "lr": 1e-4,
        "num_epochs": 2,
        "batch_size": 4,
        "num_workers": 0,
    }
    return build_config({**tiny, **values})


def dataset(root: Path, settings: Config, name: str = "train") -> TrialDataset:
    trials = load_tracks()[name].trials(root, is_labelled=True)
    return TrialDataset(trials, settings.audio, settings.rawboost, settings.training.seed)


def train(root: Path, settings: Config, validation: str | None = None) -> list[EpochResult]:
    return list(training(root, settings, validation).epochs())


def training(root: Path, settings: Config, validation: str | None = None) -> Training:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, settings.training.seed)
    held_out = dataset(root, settings, validation) if validation else None
    accelerator = open_accelerator(settings.compute)
    return Training(model, dataset(root, settings), held_out, settings, accelerator)


def test_number_of_workers_changes_no_loss(small_corpus) -> None:
    alone = train(small_corpus, config(num_epochs=1))
    together = train(small_corpus, config(num_epochs=1, num_workers=2))
    assert alone[0].metrics["train/loss"] == together[0].metrics["train/loss"]


def test_seed_decides_the_losses(small_corpus) -> None:
    losses = [
        train(small_corpus, config(num_epochs=1, seed=seed))[0].metrics["train/loss"] for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_validation_changes_no_training_loss(small_corpus) -> None:
    without = train(small_corpus, config())
    validated = train(small_corpus, config(validation="dev"), "dev")
    assert [epoch.metrics["train/loss"] for epoch in without] == [
        epoch.metrics["train/loss"] for epoch in validated
    ]
    assert "val/loss" not in without[0].metrics
    assert {"val/loss", "val/accuracy", "val/eer_percent"} <= set(validated[0].metrics)


def test_epochs_count_from_0_and_the_last_is_marked(small_corpus) -> None:
    epochs = train(small_corpus, config(patience=5))
    assert [(epoch.epoch, epoch.is_last) for epoch in epochs] == [(0, False), (1, True)]


def test_patience_ends_training(small_corpus, monkeypatch) -> None:
    losses = iter([0.3, 0.2, 0.25, 0.1])
    monkeypatch.setattr(Training, "_train_epoch", lambda *_: {"train/loss": next(losses)})
    epochs = train(small_corpus, config(num_epochs=20, patience=1))
    assert [(epoch.epoch, epoch.is_best, epoch.is_last) for epoch in epochs] == [
        (0, True, False),
        (1, True, False),
        (2, False, True),
    ]


def test_validation_loss_does_not_depend_on_the_batch_of_evaluation(small_corpus) -> None:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    losses = []
    for eval_batch_size in (3, 16):
        settings = config(eval_batch_size=eval_batch_size)
        losses.append(
            validate(model, dataset(small_corpus, settings, "dev"), settings, 0, open_accelerator(CPU))[
                "val/loss"
            ]
        )
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_constant_scores_have_no_eer_and_do_not_end_training(small_corpus, caplog) -> None:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    torch.nn.init.zeros_(model.classifier.fc3.weight)
    settings = config()
    metrics = validate(model, dataset(small_corpus, settings, "dev"), settings, 7, open_accelerator(CPU))
    assert "val/eer_percent" not in metrics
    assert metrics["val/loss"] == pytest.approx(math.log(2), abs=0.2)
    assert "epoch 7" in caplog.text


def test_loss_that_is_not_finite_names_epoch_step_and_trials(small_corpus) -> None:
    settings = config()
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    torch.nn.init.constant_(model.classifier.fc3.bias, math.nan)
    with pytest.raises(FloatingPointError, match=r"epoch 0, step 0; trials of the batch: \w+_T_\w+"):
        next(Training(model, dataset(small_corpus, settings), None, settings, open_accelerator(CPU)).epochs())


def test_batch_larger_than_the_corpus_is_refused(small_corpus) -> None:
    settings = config(batch_size=10_000)
    with pytest.raises(ValueError, match="batch_size: found 10000, but there are"):
        train(small_corpus, settings)
