"""Random weights for an encoder that starts from nothing."""

from __future__ import annotations

import math

from torch import nn

from sls.models.xlsr import Xlsr

LINEAR_STD = 0.02


def initialise_encoder(xlsr: Xlsr) -> None:
    """Draws new weights from the global generator, with the distributions of fairseq's wav2vec 2.0.

    One departure: the convolutions start without bias. Speech comes in unnormalised, at about a twentieth of
    full scale, and fairseq's random biases would drown it.

    Args:
        xlsr: the encoder, changed in place.
    """
    wav2vec2 = xlsr.wav2vec2
    for layer in wav2vec2.feature_extractor.conv_layers:
        nn.init.kaiming_normal_(layer.conv.weight)
        if layer.conv.bias is not None:
            nn.init.zeros_(layer.conv.bias)
    transformer = wav2vec2.encoder.transformer
    for module in transformer.layers.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=LINEAR_STD)
            nn.init.zeros_(module.bias)
    pos_conv = transformer.pos_conv_embed.conv
    scale = math.sqrt(4 / (xlsr.config.pos_conv_kernel * xlsr.config.dim))
    pos_conv.weight = nn.init.normal_(pos_conv.weight.detach().clone(), std=scale)
    nn.init.zeros_(pos_conv.bias)
