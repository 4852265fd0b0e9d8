"""The configuration that a fairseq wav2vec 2.0 file carries, as an EncoderConfig."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from sls.models.encoder_config import EncoderConfig
from sls.quotation import quote

_DEFAULTS: Mapping[str, Any] = {
    "extractor_mode": "default",
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "dropout_input": 0.0,
    "layer_norm_first": False,
    "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
    "conv_bias": False,
    "feature_grad_mult": 1.0,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "checkpoint_activations": False,
}
"""What fairseq takes where a file says nothing (Wav2Vec2Config of fairseq 0.12.2); older files leave fields out."""

_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu",),
    "layer_type": ("transformer",),
    "pos_conv_depth": (1,),
    "conv_pos_batch_norm": (False,),
    "quantize_input": (False,),
    "crop_seq_to_multiple": (1,),
    "extractor_mode": ("default", "layer_norm"),
}
"""Fields that change what the encoder computes, with the values that we support. Fields named in neither table
serve pre-training alone: masking, negatives, quantizer, and padding, which leaves the outputs as they are."""

MAX_REPEATS = 1000  # so that a few characters cannot ask for all memory

_ARCHITECTURES = ("wav2vec2",)


def parse_fairseq_config(checkpoint: Mapping[str, Any], source: str) -> EncoderConfig:
    """Returns the shape of the encoder that a fairseq file holds.

    Args:
        checkpoint: the file's content, with `cfg` (a dictionary) or, in older files, `args`.
        source: the file, for errors.

    Raises:
        ValueError: if there is no configuration, or it asks for what is not supported.
    """
    fields = _find_model_fields(checkpoint, source)
    architecture = fields.get("_name") or fields.get("arch") or "wav2vec2"
    _require(architecture in _ARCHITECTURES, source, "model", architecture, "wav2vec2, a pre-trained encoder")
    for name, supported in _SUPPORTED.items():
        value = fields.get(name, supported[0])
        _require(value in supported, source, name, value, " or ".join(repr(item) for item in supported))
    values = {name: fields.get(name, default) for name, default in _DEFAULTS.items()}
    conv_layers = _parse_conv_layers(values["conv_feature_layers"], source)
    try:
        return EncoderConfig(
            extractor_mode="layer_norm" if values["extractor_mode"] == "layer_norm" else "group_norm",
            conv_layers=conv_layers,
            conv_bias=bool(values["conv_bias"]),
            has_projection=conv_layers[-1][0] != int(values["encoder_embed_dim"]),
            dim=int(values["encoder_embed_dim"]),
            num_layers=int(values["encoder_layers"]),
            num_heads=int(values["encoder_attention_heads"]),
            ffn_dim=int(values["encoder_ffn_embed_dim"]),
            layer_norm_first=bool(values["layer_norm_first"]),
            pos_conv_kernel=int(values["conv_pos"]),
            pos_conv_groups=int(values["conv_pos_groups"]),
            dropout=float(values["dropout"]),
            attention_dropout=float(values["attention_dropout"]),
            activation_dropout=float(values["activation_dropout"]),
            projection_dropout=float(values["dropout_input"]),
            layer_drop=float(values["encoder_layerdrop"]),
            feature_grad_mult=float(values["feature_grad_mult"]),
            checkpoint_activations=bool(values["checkpoint_activations"]),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: the encoder's configuration cannot be used: {error}") from error


def _find_model_fields(checkpoint: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    config = checkpoint.get("cfg")
    fields = config.get("model") if isinstance(config, Mapping) else None
    fields = fields or checkpoint.get("args")
    if not isinstance(fields, Mapping):
        raise ValueError(f"{source}: found no configuration of the encoder, expected cfg.model or args")
    return fields


def _parse_conv_layers(text: Any, source: str) -> tuple[tuple[int, int, int], ...]:
    """Reads a list such as `[(512, 10, 5)] + [(512, 3, 2)] * 4`, which fairseq evaluates as Python."""
    try:
        layers = _evaluate_list(ast.parse(str(text), mode="eval").body)
        return tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in layers)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source}: conv_feature_layers: found {quote(text)}, expected lists of (channels, kernel, stride)"
        ) from error


def _evaluate_list(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _evaluate_list(node.left) + _evaluate_list(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if not isinstance(times, int) or times > MAX_REPEATS:
            raise ValueError(f"repeats {times} times")
        return _evaluate_list(node.left) * times
    return ast.literal_eval(node)


def _require(holds: bool, source: str, name: str, found: Any, expected: str) -> None:
    if not holds:
        raise ValueError(f"{source}: {name}: found {quote(found)}, expected {expected}")
