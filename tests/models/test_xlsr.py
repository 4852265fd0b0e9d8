from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig
from sls.models.xlsr import Xlsr


def make_encoder(config: EncoderConfig) -> Xlsr:
    torch.manual_seed(3)
    return Xlsr(config)


def test_every_layer_is_yielded_with_its_shape(small_config: EncoderConfig, waveforms: Tensor) -> None:
    outputs = list(make_encoder(small_config)(waveforms))
    frames = small_config.count_frames(waveforms.shape[1])
    assert [output.shape for output in outputs] == [(3, frames, small_config.dim)] * small_config.num_layers


@pytest.mark.parametrize("layer_norm_first", [True, False])
def test_layers_are_those_of_torchaudio(
    small_config: EncoderConfig, waveforms: Tensor, layer_norm_first: bool
) -> None:
    encoder = make_encoder(replace(small_config, layer_norm_first=layer_norm_first)).eval()
    expected, _ = encoder.wav2vec2.extract_features(waveforms)
    for output, other in zip(encoder(waveforms), expected, strict=True):
        assert torch.equal(output, other)


def test_layer_drop_leaves_out_layers_in_training_alone(
    small_config: EncoderConfig, waveforms: Tensor
) -> None:
    encoder = make_encoder(replace(small_config, num_layers=6, layer_drop=0.5)).train()
    with torch.no_grad():
        counts = [len(list(encoder(waveforms[:1, :1200]))) for _ in range(100)]
    assert 2.2 < sum(counts) / len(counts) < 3.8
    assert min(counts) >= 1
    assert len(list(encoder.eval()(waveforms))) == 6


def test_one_layer_is_left_when_all_would_be_dropped(small_config: EncoderConfig, waveforms: Tensor) -> None:
    encoder = make_encoder(replace(small_config, layer_drop=0.9999)).train()
    assert len(list(encoder(waveforms))) == 1


@pytest.mark.parametrize(
    "field", ["dropout", "attention_dropout", "activation_dropout", "projection_dropout"]
)
def test_each_dropout_acts_in_training_alone(
    small_config: EncoderConfig, waveforms: Tensor, field: str
) -> None:
    encoder = make_encoder(replace(small_config, **{field: 0.5}))
    first, second = (list(encoder.train()(waveforms))[-1] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (list(encoder.eval()(waveforms))[-1] for _ in range(2))
    assert torch.equal(first, second)


def gradients(encoder: Xlsr, waveforms: Tensor) -> dict[str, Tensor]:
    encoder.zero_grad()
    sum(output.square().mean() for output in encoder.train()(waveforms)).backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("factor", [0.1, 0.0])
def test_the_gradient_of_the_convolutions_is_scaled(
    small_config: EncoderConfig, waveforms: Tensor, factor: float
) -> None:
    plain = gradients(make_encoder(small_config), waveforms)
    scaled = gradients(make_encoder(replace(small_config, feature_grad_mult=factor)), waveforms)
    for name, gradient in plain.items():
        is_conv = "feature_extractor" in name
        if is_conv and factor == 0:
            assert name not in scaled
        else:
            torch.testing.assert_close(scaled[name], gradient * (factor if is_conv else 1.0))


def test_recomputed_activations_change_nothing(small_config: EncoderConfig, waveforms: Tensor) -> None:
    plain = gradients(make_encoder(small_config), waveforms)
    recomputed = gradients(make_encoder(replace(small_config, checkpoint_activations=True)), waveforms)
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)


@pytest.mark.parametrize("layer_norm_first", [True, False])
def test_every_parameter_that_asks_for_a_gradient_gets_one(
    small_config: EncoderConfig, waveforms: Tensor, layer_norm_first: bool
) -> None:
    encoder = make_encoder(replace(small_config, layer_norm_first=layer_norm_first))
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert gradients(encoder, waveforms).keys() == trainable


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_moves_layer_outputs_by_rounding_alone(
    small_config: EncoderConfig, waveforms: Tensor, dtype: torch.dtype
) -> None:
    encoder = make_encoder(small_config).eval()
    with torch.no_grad():
        expected = list(encoder(waveforms))
        with torch.autocast("cpu", dtype):
            found = list(encoder(waveforms))
    for output, other in zip(found, expected, strict=True):
        assert (output.float() - other).abs().mean() < 0.03 * other.abs().mean()


def test_without_gradients_convolutions_side_by_side_give_what_they_give_with_them() -> None:
    xlsr = Xlsr(replace(NAMED_ENCODERS["tiny"], extractor_mode="layer_norm")).eval()
    waveforms = torch.randn(3, 8_000, generator=torch.Generator().manual_seed(6)) * 0.1
    expected = list(xlsr(waveforms))
    with torch.no_grad():
        for found, own in zip(xlsr(waveforms), expected, strict=True):
            torch.testing.assert_close(found, own.detach(), rtol=1e-5, atol=1e-5)
