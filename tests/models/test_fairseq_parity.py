"""Tests of `fairseq_backend`, and of `xlsr` against fairseq: encoders that it built, saved and ran itself."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.published_weights import write_published
from sls.config import TrainingConfig
from sls.engine.training.averaging import make_average
from sls.models.checkpoints import build_countermeasure, load_checkpoint
from sls.models.checkpoints.names import FAIRSEQ_UNUSED, fairseq_names
from sls.models.countermeasure import Countermeasure
from sls.models.xlsr import Xlsr

pytestmark = pytest.mark.slow

GRADIENT_TOLERANCE = 5e-5
"""Gradients of queries nearly cancel: on a processor without AVX-512 the order of the sums made up to 2.2e-5."""
BASE = {"extractor_mode": "default", "conv_bias": False, "layer_norm_first": False}
SHAPES: dict[str, dict[str, Any]] = {
    "like XLS-R": {},
    "like base": BASE,
    "default extractor, norm first": {"extractor_mode": "default"},
    "norm last, conv bias": {"layer_norm_first": False},
    "no projection": {"encoder_embed_dim": 16, "encoder_attention_heads": 2},
    "one layer, one head": {"encoder_layers": 1, "encoder_attention_heads": 1},
    "deep and wide": {"encoder_layers": 9, "encoder_embed_dim": 60, "encoder_attention_heads": 5},
    "odd positional kernel": {"conv_pos": 7, "conv_pos_groups": 4},
    "no quantizer": {"quantize_targets": False},
    "other convolutions": {"conv_feature_layers": "[(20, 10, 5)] + [(12, 8, 4)] * 3"},
    "padded to eight": {"required_seq_len_multiple": 8},
    "scaled gradient": {**BASE, "feature_grad_mult": 0.1},
}


few_shapes = pytest.mark.parametrize("fields", ["like XLS-R", "like base", "no projection"], indirect=True)


@pytest.fixture(params=SHAPES, ids=str)
def fields(request: pytest.FixtureRequest, fairseq_fields: dict[str, Any]) -> dict[str, Any]:
    return fairseq_fields | SHAPES[request.param]


@pytest.fixture
def original(fields: dict[str, Any]) -> nn.Module:
    """A model of fairseq with random weights; the norms' too, which it starts at one and zero."""
    wav2vec2 = pytest.importorskip("fairseq.models.wav2vec.wav2vec2")
    torch.manual_seed(8)
    model = wav2vec2.Wav2Vec2Model.build_model(wav2vec2.Wav2Vec2Config(**fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def path(original: nn.Module, tmp_path: Path) -> Path:
    """That model as fairseq saves it."""
    checkpoint_utils = pytest.importorskip("fairseq.checkpoint_utils")
    omegaconf = pytest.importorskip("omegaconf")
    model_config = omegaconf.OmegaConf.to_container(
        omegaconf.OmegaConf.structured(original.cfg), enum_to_str=True
    )
    content = {
        "args": None,
        "cfg": omegaconf.OmegaConf.create({"model": model_config, "task": {"_name": "audio_pretraining"}}),
        "model": original.state_dict(),
        "optimizer_history": [{"criterion_name": "Wav2vecCriterion", "num_updates": 10}],
        "extra_state": {"train_iterator": {"epoch": 1}},
    }
    checkpoint_utils.torch_persistent_save(content, str(tmp_path / "xlsr.pt"))
    return tmp_path / "xlsr.pt"


def fairseq_outputs(model: nn.Module, waveforms: Tensor) -> list[Tensor]:
    results = model(waveforms, mask=False, features_only=True)["layer_results"]
    return [output.transpose(0, 1) for output, *_ in results]


def assert_close(found: Tensor, expected: Tensor, name: object = "", tolerance: float = 1e-5) -> None:
    """Holds the largest difference to a share of the largest value."""
    scale = expected.abs().max().clamp(min=1e-6)
    difference = (found - expected).abs().max() / scale
    assert difference < tolerance, f"{name}: relative difference {difference:.1e}"


@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "training"])
def test_layer_outputs_and_gradients_are_those_of_fairseq(
    original: nn.Module, path: Path, waveforms: Tensor, is_training: bool
) -> None:
    model = build_countermeasure(path, waveforms.shape[1], seed=1)
    assert isinstance(model.xlsr, Xlsr)
    found = list(model.xlsr.train(is_training)(waveforms))
    expected = fairseq_outputs(original.train(is_training), waveforms)
    assert len(found) == original.cfg.encoder_layers
    for layer, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert_close(one, other, layer)

    torch.manual_seed(2)
    targets = [torch.randn_like(output) for output in expected]
    for outputs in (found, expected):
        sum((output * target).mean() for output, target in zip(outputs, targets, strict=True)).backward()
    theirs = dict(original.named_parameters())
    names = fairseq_names(model.encoder)
    for ours, parameter in model.xlsr.named_parameters():
        gradient = theirs[names[ours]].grad
        assert (parameter.grad is None) == (gradient is None), ours
        # A key's bias shifts every attention logit alike: its gradient is nothing but rounding.
        if gradient is not None and not ours.endswith("k_proj.bias"):
            assert_close(parameter.grad, gradient, ours, GRADIENT_TOLERANCE)


@few_shapes
def test_fairseq_as_backend_gives_equal_scores(path: Path, waveforms: Tensor, tmp_path: Path) -> None:
    ours = build_countermeasure(path, waveforms.shape[1], seed=1).eval()
    theirs = build_countermeasure(path, waveforms.shape[1], seed=1, backend="fairseq").eval()
    with torch.inference_mode():
        torch.testing.assert_close(theirs(waveforms), ours(waveforms), rtol=0, atol=1e-5)
    for name, tensor in ours.portable_state_dict().items():
        assert torch.equal(tensor, theirs.portable_state_dict()[name]), name
    published = [write_published(tmp_path / f"{i}.pth", model) for i, model in enumerate((ours, theirs))]
    states = [torch.load(file, weights_only=True) for file in published]
    assert states[0].keys() == states[1].keys()
    loaded = load_checkpoint(published[1], xlsr=path, backend="fairseq")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(waveforms), theirs(waveforms), rtol=0, atol=1e-6)


@few_shapes
def test_an_average_of_weights_is_one_of_fairseq_too(path: Path, waveforms: Tensor) -> None:
    model = build_countermeasure(path, waveforms.shape[1], seed=1, backend="fairseq").eval()
    model.freeze_lower_layers(1)
    state = torch.get_rng_state()
    average = make_average(model, TrainingConfig(ema_decay=0.5))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    average.after_step()
    with torch.inference_mode():
        assert torch.equal(average.result(waveforms), model(waveforms))
        average.after_step()
        assert torch.equal(average.result(waveforms), model(waveforms))
    copied = copy.deepcopy(model)
    assert [parameter.requires_grad for parameter in copied.parameters()] == [
        parameter.requires_grad for parameter in model.parameters()
    ]


@pytest.fixture
def trained(golden_dir: Path) -> Callable[[str], Countermeasure]:
    """The golden countermeasure after three steps of training, by backend."""

    def train(backend: Any) -> Countermeasure:
        model = load_checkpoint(
            golden_dir / "sls_tiny_epoch_0.pth", xlsr=golden_dir / "xlsr_tiny.pt", backend=backend
        ).model.train()
        generator = torch.Generator().manual_seed(11)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
        for _ in range(3):
            loss = -model(torch.randn(5, 64_600, generator=generator) * 0.1)[:, 1].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model.eval()

    return train


def test_training_with_either_backend_ends_in_the_same_weights(
    trained: Callable[[str], Countermeasure],
) -> None:
    pytest.importorskip("fairseq")
    ours, theirs = (trained(backend).portable_state_dict() for backend in ("torchaudio", "fairseq"))
    for name, tensor in ours.items():
        # Adam turns the rounding in a key's bias (see above) into whole steps.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=2e-5, msg=name)


class SeedModel(nn.Module):
    """The names of the seed system's Model, over fairseq's encoder: what its strict loader expects."""

    def __init__(self, encoder: nn.Module, dim: int, fc1_inputs: int) -> None:
        super().__init__()
        self.ssl_model = nn.Module()
        self.ssl_model.model = encoder
        self.first_bn = nn.BatchNorm2d(num_features=1)
        self.fc0 = nn.Linear(dim, 1)
        self.fc1 = nn.Linear(fc1_inputs, 1024)
        self.fc3 = nn.Linear(1024, 2)


@few_shapes
def test_a_strict_loader_over_fairseq_accepts_the_published_names(
    original: nn.Module, path: Path, waveforms: Tensor, tmp_path: Path
) -> None:
    model = build_countermeasure(path, waveforms.shape[1], seed=1)
    unused = {name: tensor for name, tensor in original.state_dict().items() if FAIRSEQ_UNUSED.match(name)}
    published = torch.load(write_published(tmp_path / "a.pth", model, unused), weights_only=True)
    seed_model = SeedModel(original, model.encoder.dim, model.classifier.fc1.in_features)
    nn.DataParallel(seed_model).load_state_dict(published, strict=True)
