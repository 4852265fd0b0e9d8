"""The book-keeping around a CUDA graph, which itself `tests/engine/test_gpu.py` tries on a GPU."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from sls.config_file import build_config
from sls.data.corpora.tracks import load_tracks
from sls.data.loading.dataset import TrialDataset
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.training import captured
from sls.engine.training.captured import WARM_UP_CALLS, Captured, can_capture
from sls.engine.training.loop import Training
from sls.models.checkpoints import build_countermeasure

NUM_SAMPLES = 16_000


class StandIn(Captured):
    """Does on a CPU what a graph does: from its third call on it uses the gradients that it found, or made then."""

    weights: tuple[nn.Parameter, ...] = ()

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.num_calls += 1
        if self.num_calls <= WARM_UP_CALLS:
            return self.function(*inputs)
        if self.graph is None:
            self.graph = SimpleNamespace(adds=any(weight.grad is not None for weight in self.weights))
            self.places = None
        elif self.graph.adds is False:
            for place in self.places:
                place.zero_()  # what is written anew
        output = self.function(*inputs)
        places = [weight.grad for weight in self.weights if weight.grad is not None]
        if self.places is None:
            self.places = places
        assert all(one is other for one, other in zip(places, self.places, strict=True))
        return output


def train(corpus: Path, **values: object) -> Training:
    tiny = {"audio_max_len": NUM_SAMPLES, "lr": 1e-3, "batch_size": 3, "num_workers": 0, "device": "cpu"}
    config = build_config({**tiny, "num_epochs": 3, "patience": 9, **values})
    trials = load_tracks()["train"].trials(corpus, is_labelled=True)[:12]
    data = TrialDataset(trials, config.audio, config.rawboost, config.training.seed)
    model = build_countermeasure("random:tiny", NUM_SAMPLES, config.training.seed)
    return Training(model, data, None, config, open_accelerator(config.compute))


def losses(job: Training) -> list[float]:
    return [epoch.metrics["train/loss"] for epoch in job.epochs()]


@pytest.mark.slow
@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_gradients_stay_where_a_graph_looks_for_them(
    small_corpus, monkeypatch, accumulation_steps: int
) -> None:
    values = {"accumulation_steps": accumulation_steps, "clip_norm": 0.1}
    expected = losses(train(small_corpus, **values))
    monkeypatch.setattr("sls.engine.training.loop.can_capture", lambda *_: True)
    monkeypatch.setattr(captured, "Captured", StandIn)
    job = train(small_corpus, **values)
    job.gradient.captured.weights = tuple(job.trained)
    assert losses(job) == pytest.approx(expected, rel=1e-6)
    assert job.gradient.captured.graph.adds == (accumulation_steps > 1)


def test_only_steps_that_are_alike_on_one_gpu_are_captured() -> None:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 1)
    one = SimpleNamespace(device=torch.device("cuda"), distributed_type=DistributedType.NO)
    assert can_capture(model, one)
    for other in ({"device": torch.device("cpu")}, {"distributed_type": DistributedType.MULTI_GPU}):
        assert not can_capture(model, SimpleNamespace(**{**vars(one), **other}))
    for changes, is_captured in (
        ({"layer_drop": 0.1}, False),
        ({"dropout": 0.1}, True),
        ({"checkpoint_activations": True}, True),
        ({"checkpoint_activations": True, "attention_dropout": 0.1}, False),
    ):
        model.encoder = replace(model.encoder, **changes)
        assert can_capture(model, one) == is_captured
        model.encoder = build_countermeasure("random:tiny", NUM_SAMPLES, 1).encoder


def test_a_graph_is_left_out_where_a_user_says_so(small_corpus, monkeypatch) -> None:
    monkeypatch.setattr("sls.engine.training.loop.can_capture", lambda *_: True)
    assert train(small_corpus, cuda_graph=False).gradient.captured is None
