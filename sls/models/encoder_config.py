"""The shape of a wav2vec 2.0 encoder, and the shapes that are known by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from sls.config import require, require_at_least
from sls.quotation import quote

WAV2VEC2_CONV_LAYERS = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
"""Channels, kernel and stride of each convolution of wav2vec 2.0: 25 ms windows every 20 ms at 16 kHz."""


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that decides what a wav2vec 2.0 encoder computes (Baevski et al., 2020).

    The defaults are XLS-R 300M (Babu et al., 2021); the comments give fairseq's name where it differs.
    """

    extractor_mode: Literal["group_norm", "layer_norm"] = "layer_norm"
    """Normalisation of the convolutions: after the first alone by channel (fairseq: default), or after each."""
    conv_layers: tuple[tuple[int, int, int], ...] = WAV2VEC2_CONV_LAYERS
    """Channels, kernel and stride of each convolution (conv_feature_layers)."""
    conv_bias: bool = True
    """Whether the convolutions have a bias."""
    has_projection: bool = True
    """Whether a linear layer joins convolutions and transformer; fairseq leaves it out where the dimensions
    are equal."""
    dim: int = 1024
    """Dimension of the transformer (encoder_embed_dim)."""
    num_layers: int = 24
    """Transformer layers (encoder_layers)."""
    num_heads: int = 16
    """Attention heads in each layer (encoder_attention_heads)."""
    ffn_dim: int = 4096
    """Inner dimension of the feed-forward part (encoder_ffn_embed_dim)."""
    layer_norm_first: bool = True
    """Whether each layer normalises its input (XLS-R) or its output (base-size models)."""
    pos_conv_kernel: int = 128
    """Kernel of the convolution that encodes positions (conv_pos), in frames."""
    pos_conv_groups: int = 16
    """Groups of that convolution (conv_pos_groups)."""
    dropout: float = 0.0
    """Dropout after attention, after the feed-forward part, and before the first layer."""
    attention_dropout: float = 0.0
    """Dropout on attention weights."""
    activation_dropout: float = 0.0
    """Dropout inside the feed-forward part."""
    projection_dropout: float = 0.0
    """Dropout after the projection (dropout_input)."""
    layer_drop: float = 0.0
    """Probability that a layer is left out of a training step (encoder_layerdrop)."""
    feature_grad_mult: float = 1.0
    """Factor on the gradient of the convolutions; 0 freezes them."""
    checkpoint_activations: bool = False
    """Recompute each layer in the backward pass: less memory, more time, the same result."""

    def __post_init__(self) -> None:
        require_at_least(
            1, self, "dim", "num_layers", "num_heads", "ffn_dim", "pos_conv_kernel", "pos_conv_groups"
        )
        dropouts = ("dropout", "attention_dropout", "activation_dropout", "projection_dropout", "layer_drop")
        for name in dropouts:
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a probability below 1")
        scale = self.feature_grad_mult
        require(math.isfinite(scale), "feature_grad_mult", scale, "a number")
        for name in ("num_heads", "pos_conv_groups"):
            divisor = getattr(self, name)
            require(self.dim % divisor == 0, name, divisor, f"a divisor of dim, which is {self.dim}")
        is_valid = bool(self.conv_layers) and all(len(c) == 3 and min(c) >= 1 for c in self.conv_layers)
        require(is_valid, "conv_layers", self.conv_layers, "triples of channels, kernel and stride")
        modes = ("group_norm", "layer_norm")
        require(self.extractor_mode in modes, "extractor_mode", self.extractor_mode, " or ".join(modes))
        channels = self.conv_layers[-1][0]
        expected = f"true, because the convolutions give {channels} channels and dim is {self.dim}"
        require(self.has_projection or channels == self.dim, "has_projection", False, expected)

    @property
    def has_dropout(self) -> bool:
        """Whether two passes over the same waveforms can differ in training, layer drop aside."""
        return any((self.dropout, self.attention_dropout, self.activation_dropout, self.projection_dropout))

    @property
    def num_weights(self) -> int:
        """Numbers in the matrices of the encoder, without making it: biases and normalisations come to little."""
        channels = [1, *(channels for channels, _, _ in self.conv_layers)]
        kernels = (kernel for _, kernel, _ in self.conv_layers)
        convolutions = sum(
            a * b * kernel for a, b, kernel in zip(channels, channels[1:], kernels, strict=False)
        )
        positions = self.dim * (self.dim // self.pos_conv_groups) * self.pos_conv_kernel
        return convolutions + positions + self.num_layers * self.dim * (4 * self.dim + 2 * self.ffn_dim)

    def count_frames(self, num_samples: int) -> int:
        """Returns how many frames the convolutions make of samples; raises ValueError for less than one."""
        frames = num_samples
        for _, kernel, stride in self.conv_layers:
            frames = (frames - kernel) // stride + 1
            require(frames >= 1, "num_samples", num_samples, "enough samples for one frame")
        return frames

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EncoderConfig:
        """Returns the configuration of JSON's fields; raises ValueError for unknown, missing or mistyped ones."""
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(fields) != expected:
            raise ValueError(
                f"encoder configuration: unknown fields {quote(sorted(set(fields) - expected))}, "
                f"missing fields {sorted(expected - set(fields))}"
            )
        conv_layers = tuple((int(c), int(k), int(s)) for c, k, s in fields["conv_layers"])
        config = cls(**{**fields, "conv_layers": conv_layers})
        for name in expected:
            found, kind = getattr(config, name), type(getattr(cls, name))
            is_kind = type(found) is kind or (kind is float and type(found) is int)
            require(is_kind, f"encoder configuration: {name}", found, kind.__name__)
        return config


NAMED_ENCODERS: Mapping[str, EncoderConfig] = MappingProxyType(
    {
        # For demonstrations and tests: the transformer of XLS-R in miniature, to train from nothing on two CPU
        # cores. Steps of 80 ms: the classifier learns a weight for each place, and few utterances teach few.
        "tiny": EncoderConfig(
            conv_layers=((64, 128, 16), (64, 5, 5), (64, 4, 4), (64, 4, 4)),
            dim=48,
            num_layers=3,
            num_heads=4,
            ffn_dim=96,
            pos_conv_kernel=16,
            pos_conv_groups=4,
        ),
        "base": EncoderConfig(
            extractor_mode="group_norm",
            conv_bias=False,
            dim=768,
            num_layers=12,
            num_heads=12,
            ffn_dim=3072,
            layer_norm_first=False,
        ),
        "300m": EncoderConfig(),
        "1b": EncoderConfig(dim=1280, num_layers=48, ffn_dim=5120),
        "2b": EncoderConfig(dim=1920, num_layers=48, ffn_dim=7680),
    }
)
"""Shapes by name. `random:NAME` starts one from random weights; a published SLS file, whose shapes do not
tell the number of heads, is recognised by them."""
