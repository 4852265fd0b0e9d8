"""Encoders in the layout of Hugging Face's wav2vec 2.0, such as facebook/wav2vec2-xls-r-300m."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sls.models.encoder_config import EncoderConfig
from sls.quotation import quote

CONFIG_NAME = "config.json"
PREFIX = "wav2vec2."

_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("wav2vec2",),
    "hidden_act": ("gelu",),
    "feat_extract_activation": ("gelu",),
    "feat_extract_norm": ("group", "layer"),
    "layer_norm_eps": (1e-5,),
    "add_adapter": (False,),
    "adapter_attn_dim": (None,),
}
"""Fields that change what the encoder computes, with the values that we support. Masking (apply_spec_augment)
belongs to pre-training and speech recognition: the countermeasure hears all of the waveform."""


def is_huggingface(names: list[str]) -> bool:
    """Whether these are the names of weights in Hugging Face's layout."""
    return any(name.removeprefix(PREFIX).startswith("feature_projection.") for name in names)


def read_huggingface_config(path: Path) -> EncoderConfig:
    """Returns the shape of the encoder that a `config.json` describes.

    The dropouts and the layer drop are honoured; those of facebook/wav2vec2-xls-r-300m are not those of
    fairseq's file of the same weights.

    Raises:
        ValueError: if it cannot be read, leaves out a field, or asks for what is not supported.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        _check_supported(fields, path)
        channels, kernels, strides = (fields[f"conv_{name}"] for name in ("dim", "kernel", "stride"))
        return EncoderConfig(
            extractor_mode="layer_norm" if fields["feat_extract_norm"] == "layer" else "group_norm",
            conv_layers=tuple(zip(channels, kernels, strides, strict=True)),
            conv_bias=fields["conv_bias"],
            dim=fields["hidden_size"],
            num_layers=fields["num_hidden_layers"],
            num_heads=fields["num_attention_heads"],
            ffn_dim=fields["intermediate_size"],
            layer_norm_first=fields["do_stable_layer_norm"],
            pos_conv_kernel=fields["num_conv_pos_embeddings"],
            pos_conv_groups=fields["num_conv_pos_embedding_groups"],
            dropout=fields["hidden_dropout"],
            attention_dropout=fields["attention_dropout"],
            activation_dropout=fields["activation_dropout"],
            projection_dropout=fields["feat_proj_dropout"],
            layer_drop=fields["layerdrop"],
        )
    except KeyError as error:
        raise ValueError(f"{path}: found no {error}, expected a wav2vec 2.0 configuration") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the encoder's configuration cannot be used: {error}") from error


def _check_supported(fields: Mapping[str, Any], path: Path) -> None:
    for name, supported in _SUPPORTED.items():
        value = fields.get(name, supported[0])
        if value not in supported:
            expected = " or ".join(repr(item) for item in supported)
            raise ValueError(f"{name}: found {quote(value)}, expected {expected}")
