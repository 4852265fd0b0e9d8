"""Tests of `compiling`: compiled layers compute what the others do, but for the last digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sls.config import AudioConfig, Config, ScoringConfig
from sls.config_file import build_config
from sls.data.corpora.tracks import load_tracks
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.scoring.forward_pass import linear_arithmetic
from sls.engine.scoring.loop import ScoringJob, score
from sls.engine.training.loop import Training
from sls.models.checkpoints import build_countermeasure
from sls.models.compiling import compile_encoder

NUM_SAMPLES = 16_000


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu),
]


def config(**values: object) -> Config:
    tiny = {"device": "cpu", "audio_max_len": NUM_SAMPLES, "lr": 1e-3, "batch_size": 4, "num_workers": 0}
    return build_config({**tiny, "num_epochs": 1, **values})


def test_fairseq_layers_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="compile: found true .*fairseq"):
        config(compile=True, backend="fairseq")


def test_other_models_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="compile: found .*Linear, expected .*countermeasure"):
        compile_encoder(nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_training_takes_the_same_steps(small_corpus, device: str) -> None:
    def train(settings: Config):
        trials = load_tracks()["train"].trials(small_corpus, is_labelled=True)
        data = TrialDataset(trials, settings.audio, settings.rawboost, settings.training.seed)
        model = build_countermeasure("random:tiny", NUM_SAMPLES, settings.training.seed)
        job = Training(model, data, data, settings, open_accelerator(settings.compute))
        (epoch,) = job.epochs()
        return epoch

    own, compiled = (
        train(config(validation="dev", device=device)),
        train(config(validation="dev", device=device, compile=True)),
    )
    for name in ("train/loss", "val/loss"):
        assert compiled.metrics[name] == pytest.approx(own.metrics[name], rel=1e-4)
    weights, expected = (epoch.model.portable_state_dict() for epoch in (compiled, own))
    assert list(weights) == list(expected)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_scores_differ_in_the_last_digits_alone_and_are_not_mixed_with_others(
    small_corpus, tmp_path, device: str
) -> None:
    trials = load_tracks()["LA"].trials(small_corpus)[:7]
    batches = ScoringBatches(TrialDataset(trials, AudioConfig(audio_max_len=NUM_SAMPLES), None), batch_size=4)
    settings = config().compute
    scores, ways = [], []
    for compute in (settings, replace(settings, compile=True)):
        model = build_countermeasure("random:tiny", NUM_SAMPLES, 1)
        place, output = torch.device(device), tmp_path / "scores.txt"
        scored = score(ScoringJob(model, batches, compute, ScoringConfig(), place, output, {}), range(2))
        scores.append(np.concatenate([batch.scores for batch in scored]))
        assert all(module._compiled_call_impl is None for module in model.modules())
        ways.append(linear_arithmetic(compute, place))
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)
    assert "compiled" in ways
    assert len(set(ways)) == 2
