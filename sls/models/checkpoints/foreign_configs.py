"""What others' files say of the shape of an encoder: fairseq's wav2vec 2.0 files, and Hugging Face's config.json."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sls.models.encoder_config import EncoderConfig
from sls.plain_data import parse_json
from sls.quotation import quote

# Our name of a field: fairseq's, what fairseq takes where a file says nothing (Wav2Vec2Config of fairseq 0.12.2;
# older files leave fields out), and Hugging Face's, where it has one.
_FIELDS: Mapping[str, tuple[str, Any, str]] = {
    "conv_bias": ("conv_bias", False, "conv_bias"),
    "dim": ("encoder_embed_dim", 768, "hidden_size"),
    "num_layers": ("encoder_layers", 12, "num_hidden_layers"),
    "num_heads": ("encoder_attention_heads", 12, "num_attention_heads"),
    "ffn_dim": ("encoder_ffn_embed_dim", 3072, "intermediate_size"),
    "layer_norm_first": ("layer_norm_first", False, "do_stable_layer_norm"),
    "pos_conv_kernel": ("conv_pos", 128, "num_conv_pos_embeddings"),
    "pos_conv_groups": ("conv_pos_groups", 16, "num_conv_pos_embedding_groups"),
    "dropout": ("dropout", 0.1, "hidden_dropout"),
    "attention_dropout": ("attention_dropout", 0.1, "attention_dropout"),
    "activation_dropout": ("activation_dropout", 0.0, "activation_dropout"),
    "projection_dropout": ("dropout_input", 0.0, "feat_proj_dropout"),
    "layer_drop": ("encoder_layerdrop", 0.0, "layerdrop"),
    "feature_grad_mult": ("feature_grad_mult", 1.0, ""),
    "checkpoint_activations": ("checkpoint_activations", False, ""),
}
# Where a fairseq file says nothing.
_CONV_LAYERS = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"

# Fields that change what the encoder computes, with the values that we support, the usual one first. Those named in
# no table serve pre-training or speech recognition alone: masking (of which the countermeasure hears nothing),
# negatives, quantizer, and padding, which leaves the outputs as they are.
_FAIRSEQ_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "model": ("wav2vec2",),
    "activation_fn": ("gelu",),
    "layer_type": ("transformer",),
    "pos_conv_depth": (1,),
    "conv_pos_batch_norm": (False,),
    "quantize_input": (False,),
    "crop_seq_to_multiple": (1,),
    "extractor_mode": ("default", "layer_norm"),
}
_HUGGINGFACE_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("wav2vec2",),
    "hidden_act": ("gelu",),
    "feat_extract_activation": ("gelu",),
    "feat_extract_norm": ("group", "layer"),
    "layer_norm_eps": (1e-5,),
    "add_adapter": (False,),
    "adapter_attn_dim": (None,),
}

MAX_CONV_LAYERS = 1000
MAX_CONV_TEXT = 20_000  # characters that tell of them; Python's parser takes a hundred times their memory


def parse_fairseq_config(checkpoint: Mapping[str, Any], source: str) -> EncoderConfig:
    """Returns the encoder's shape in a fairseq file, by `cfg` or `args`; raises ValueError where we have none."""
    config = checkpoint.get("cfg")
    fields = config.get("model") if isinstance(config, Mapping) else None
    fields = fields or checkpoint.get("args")
    if not isinstance(fields, Mapping):
        raise ValueError(f"{source}: found no configuration of the encoder, expected cfg.model or args")
    architecture = fields.get("_name") or fields.get("arch") or "wav2vec2"
    values = {ours: fields.get(theirs, default) for ours, (theirs, default, _) in _FIELDS.items()}
    try:
        _check_supported({**fields, "model": architecture}, _FAIRSEQ_SUPPORTED)
        conv_layers = _parse_conv_layers(fields.get("conv_feature_layers", _CONV_LAYERS))
        values["has_projection"] = conv_layers[-1][0] != int(values["dim"])
        return _make_encoder(values, fields.get("extractor_mode") == "layer_norm", conv_layers)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: the encoder's configuration cannot be used: {error}") from error


def fairseq_fields(config: EncoderConfig) -> dict[str, Any]:
    """Returns an encoder's shape by fairseq's names: the inverse of `parse_fairseq_config`."""
    return {theirs: getattr(config, ours) for ours, (theirs, _, _) in _FIELDS.items()} | {
        "extractor_mode": "layer_norm" if config.extractor_mode == "layer_norm" else "default",
        "conv_feature_layers": str(list(config.conv_layers)),
    }


def read_huggingface_config(path: Path) -> EncoderConfig:
    """Returns the shape of the encoder that a `config.json` describes.

    The dropouts and the layer drop are honoured; those of facebook/wav2vec2-xls-r-300m are not those of
    fairseq's file of the same weights.

    Raises:
        ValueError: if it cannot be read, leaves out a field, or asks for what is not supported.
    """
    try:
        fields = parse_json(path.read_text(encoding="utf-8"))
        _check_supported(fields, _HUGGINGFACE_SUPPORTED)
        values = {ours: fields[theirs] for ours, (_, _, theirs) in _FIELDS.items() if theirs}
        convolutions = zip(*(fields[f"conv_{name}"] for name in ("dim", "kernel", "stride")), strict=True)
        return _make_encoder(values, fields["feat_extract_norm"] == "layer", tuple(convolutions))
    except KeyError as error:
        raise ValueError(f"{path}: found no {error}, expected a wav2vec 2.0 configuration") from error
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the encoder's configuration cannot be used: {error}") from error


def _make_encoder(
    values: Mapping[str, Any], is_layer_norm: bool, conv_layers: tuple[tuple[int, int, int], ...]
) -> EncoderConfig:
    """Returns an encoder's shape, each value being made the type of its field."""
    typed = {name: type(getattr(EncoderConfig, name))(value) for name, value in values.items()}
    return EncoderConfig(
        extractor_mode="layer_norm" if is_layer_norm else "group_norm", conv_layers=conv_layers, **typed
    )


def _check_supported(fields: Mapping[str, Any], table: Mapping[str, tuple[Any, ...]]) -> None:
    for name, supported in table.items():
        value = fields.get(name, supported[0])
        if value not in supported:
            expected = " or ".join(repr(item) for item in supported)
            raise ValueError(f"{name}: found {quote(value)}, expected {expected}")


def _parse_conv_layers(text: Any) -> tuple[tuple[int, int, int], ...]:
    """Reads a list such as `[(512, 10, 5)] + [(512, 3, 2)] * 4`, which fairseq evaluates as Python."""
    try:
        if len(text) > (MAX_CONV_TEXT if isinstance(text, str) else MAX_CONV_LAYERS):
            raise ValueError("more than any encoder has")
        layers = _evaluate_list(ast.parse(text.strip(), mode="eval").body) if isinstance(text, str) else text
        if not layers:
            raise ValueError("no layer")
        return tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in layers)
    except (MemoryError, OverflowError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"conv_feature_layers: found {quote(text)}, expected lists of (channels, kernel, stride)"
        ) from error


def _evaluate_list(node: ast.expr) -> list[Any]:
    """Returns a list of not more than `MAX_CONV_LAYERS`; the length of each part of it is known before it is made."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = _evaluate_list(node.left), _evaluate_list(node.right)
        _check_length(len(parts[0]) + len(parts[1]))
        return parts[0] + parts[1]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        repeated, times = _evaluate_list(node.left), ast.literal_eval(node.right)
        _check_length(len(repeated) * times)
        return repeated * int(times)
    layers = ast.literal_eval(node)
    if not isinstance(layers, list):
        raise ValueError("no list of layers")
    _check_length(len(layers))
    return layers


def _check_length(length: int) -> None:
    if length > MAX_CONV_LAYERS:
        raise ValueError(f"{length} layers")
