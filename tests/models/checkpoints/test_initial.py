import math
from dataclasses import replace

import pytest
import torch

from sls.models.checkpoints.initial import (
    FILTERBANKS,
    SAMPLE_RATE_HZ,
    WithoutInitialValues,
    initialise_encoder,
)
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig
from sls.models.xlsr import Xlsr


def test_no_random_number_is_drawn_without_initial_values(small_config: EncoderConfig) -> None:
    before = torch.get_rng_state()
    with WithoutInitialValues():
        encoder = Xlsr(small_config)
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder.state_dict().keys() == Xlsr(small_config).state_dict().keys()


@pytest.mark.parametrize("filters", FILTERBANKS)
@pytest.mark.parametrize("frequency_hz", [200, 1000, 3000, 6000])
def test_the_filterbank_hears_a_tone_at_its_frequency(frequency_hz: int, filters: str) -> None:
    encoder = Xlsr(NAMED_ENCODERS["tiny"])
    initialise_encoder(encoder, filters)
    weight = encoder.wav2vec2.feature_extractor.conv_layers[0].conv.weight.squeeze(1)  # (filters, samples)
    tone = torch.exp(2j * math.pi * frequency_hz * torch.arange(weight.shape[1]) / SAMPLE_RATE_HZ)
    loudest = (weight * tone).sum(dim=1).abs().argmax()
    spectrum = torch.fft.rfft(weight[loudest], n=SAMPLE_RATE_HZ).abs()  # one bin for each Hz
    assert abs(int(spectrum.argmax()) - frequency_hz) < 0.15 * frequency_hz + 30


def test_weights_have_the_deviation_that_keeps_signals_alive(small_config: EncoderConfig) -> None:
    config = replace(small_config, dim=96, ffn_dim=200, conv_layers=((64, 10, 5), (64, 3, 2)))
    encoder = Xlsr(config)
    initialise_encoder(encoder)
    state = {name.removeprefix("wav2vec2."): tensor for name, tensor in encoder.state_dict().items()}
    expected = {
        "feature_extractor.conv_layers.1.conv.weight": math.sqrt(2 / (64 * 3)),
        "encoder.transformer.layers.0.attention.q_proj.weight": 0.02 * math.sqrt(1024 / 96),
        "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1": math.sqrt(4 / (8 * 96)),
    }
    for name, deviation in expected.items():
        assert state[name].std().item() == pytest.approx(deviation, rel=0.1), name
    assert not any(tensor.any() for name, tensor in state.items() if name.endswith("bias"))
