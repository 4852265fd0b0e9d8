import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sls.config import ComputeConfig, Config, RawBoostConfig
from sls.config_file import build_config
from sls.data.loading.dataset import TrialDataset
from sls.data.tables.protocols import Trial
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.training.validation import validate

LABELS = [1, 0, 0, 1, 0]
LOG_ODDS = [2.0, -1.0, 0.5, -0.5, -3.0]
"""Of bona fide against spoof, for each trial."""


class Listener(torch.nn.Module):
    """Takes the mean of a waveform for the log odds; it must not be trained, and its gradient not be kept."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        log_odds = waveforms.mean(dim=1)
        return torch.log_softmax(torch.stack([torch.zeros_like(log_odds), log_odds], dim=1), dim=1)


def config(**values: object) -> Config:
    return build_config({"device": "cpu", "audio_max_len": 400, "batch_size": 2, "num_workers": 0, **values})


@pytest.fixture
def held_out(tmp_path: Path) -> TrialDataset:
    trials = []
    for index, (label, log_odds) in enumerate(zip(LABELS, LOG_ODDS, strict=True)):
        path = tmp_path / f"T_{index}.wav"
        soundfile.write(path, np.full(400, log_odds), 16_000, subtype="FLOAT")
        trials.append(Trial(path.stem, path, label))
    return TrialDataset(trials, config().audio)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(("eval_batch_size", "num_batches"), [(0, 3), (4, 2)])
def test_metrics_are_those_that_are_found_by_hand(held_out, eval_batch_size, num_batches) -> None:
    calls = []
    settings = config(eval_batch_size=eval_batch_size)
    accelerator = open_accelerator(ComputeConfig(device="cpu"))
    found = validate(Listener(), held_out, settings, 0, accelerator, lambda: calls.append(None))
    # Weighted means, 0.9 for bona fide and 0.1 for spoof, of the trials 0 and 1, 2 and 3, and 4.
    groups = [0.9 * softplus(-2) + 0.1 * softplus(-1), softplus(0.5), softplus(-3)]
    assert found["val/loss"] == pytest.approx((2 * groups[0] + 2 * groups[1] + groups[2]) / 5, abs=1e-6)
    assert found["val/accuracy"] == pytest.approx(3 / 5)
    assert found["val/eer_percent"] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    assert len(calls) == num_batches


def test_every_epoch_hears_the_same_noise(held_out) -> None:
    trials = [Trial(held_out.name(index), held_out.path(index), label) for index, label in enumerate(LABELS)]
    noisy = TrialDataset(trials, config().audio, RawBoostConfig(algo=3), seed=1)
    accelerator = open_accelerator(ComputeConfig(device="cpu"))
    clean, first, later = (
        validate(Listener(), dataset, config(), epoch, accelerator)["val/loss"]
        for dataset, epoch in ((held_out, 0), (noisy, 0), (noisy, 5))
    )
    assert first == later != clean


def test_what_is_raised_before_a_batch_ends_the_validation(held_out) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(Listener(), held_out, config(), 0, open_accelerator(ComputeConfig(device="cpu")), stop)
