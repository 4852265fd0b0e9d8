"""The names of an encoder's weights: ours, which are torchaudio's, fairseq's and Hugging Face's."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sls.models.encoder_config import EncoderConfig

_LOGGER = logging.getLogger(__name__)

MAX_LISTED = 12  # names of one kind in an error
ALIGNMENT_BYTES = 64  # of what PyTorch allocates on a CPU

_WEIGHT_NORM = {"weight_g": "original0", "weight_v": "original1"}
_WEIGHT_NORM_PATTERN = re.compile(r"parametrizations\.weight\.original([01])$")

FAIRSEQ_UNUSED = re.compile(r"(mask_emb$|quantizer\.|project_q\.|final_proj\.|target_glu\.)")
"""What serves pre-training alone, in fairseq's names."""
HUGGINGFACE_UNUSED = re.compile(r"(masked_spec_embed$|quantizer\.|project_q\.|project_hid\.|lm_head\.)")
"""What serves pre-training or speech recognition alone, in Hugging Face's names."""

HUGGINGFACE_TO_FAIRSEQ_UNUSED = {
    "masked_spec_embed": "mask_emb",
    "quantizer.codevectors": "quantizer.vars",
    "quantizer.weight_proj.weight": "quantizer.weight_proj.weight",
    "quantizer.weight_proj.bias": "quantizer.weight_proj.bias",
    "project_q.weight": "project_q.weight",
    "project_q.bias": "project_q.bias",
    "project_hid.weight": "final_proj.weight",
    "project_hid.bias": "final_proj.bias",
}


@dataclass(frozen=True)
class TakenWeights:
    """The weights that a model asked for, and what the file holds besides."""

    weights: dict[str, Tensor]
    """By our names."""
    unused: dict[str, Tensor]
    """By the names of the file."""


def fairseq_names(config: EncoderConfig) -> dict[str, str]:
    """Returns fairseq's name of each weight of `Xlsr`, by ours, for an encoder of this shape."""
    norm_infix = "2.1" if config.extractor_mode == "layer_norm" else "2"
    names = {}
    for i, part, ours in _conv_parts(config):
        infix = "0" if part == "conv" else norm_infix
        names[ours] = f"feature_extractor.conv_layers.{i}.{infix}.{ours.rpartition('.')[2]}"
    pairs = [
        ("encoder.feature_projection.layer_norm", "layer_norm"),
        ("encoder.transformer.layer_norm", "encoder.layer_norm"),
    ]
    if config.has_projection:
        pairs.append(("encoder.feature_projection.projection", "post_extract_proj"))
    for i in range(config.num_layers):
        ours, theirs = f"encoder.transformer.layers.{i}", f"encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            pairs.append((f"{ours}.attention.{name}", f"{theirs}.self_attn.{name}"))
        pairs += [
            (f"{ours}.layer_norm", f"{theirs}.self_attn_layer_norm"),
            (f"{ours}.feed_forward.intermediate_dense", f"{theirs}.fc1"),
            (f"{ours}.feed_forward.output_dense", f"{theirs}.fc2"),
            (f"{ours}.final_layer_norm", f"{theirs}.final_layer_norm"),
        ]
    for ours, theirs in pairs:
        for kind in ("weight", "bias"):
            names[f"wav2vec2.{ours}.{kind}"] = f"{theirs}.{kind}"
    for kind, ours in _pos_conv_parts():
        names[ours] = f"encoder.pos_conv.0.{kind}"
    return names


def huggingface_names(config: EncoderConfig) -> dict[str, str]:
    """Returns Hugging Face's name of each weight of `Xlsr`, without the leading `wav2vec2.`, by ours."""
    names = {}
    for ours in fairseq_names(config):
        theirs = ours.removeprefix("wav2vec2.")
        theirs = theirs.replace("encoder.feature_projection.", "feature_projection.")
        names[ours] = theirs.replace("encoder.transformer.", "encoder.")
    for kind, ours in _pos_conv_parts():
        names[ours] = f"encoder.pos_conv_embed.conv.{kind}"
    return names


def unify_weight_norm(name: str) -> str:
    """Returns the name with weight normalisation spelled as in older files: `weight_g`, `weight_v`."""
    return _WEIGHT_NORM_PATTERN.sub(lambda match: f"weight_{'gv'[int(match[1])]}", name)


def take_weights(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    shapes: Mapping[str, torch.Size],
    unused: re.Pattern[str],
    source: str,
) -> TakenWeights:
    """Takes from a file the weights of a model, by our names, and accounts for every other one.

    Args:
        state: the file's weights, by its names.
        names: the file's name of each weight that the model needs, by ours.
        shapes: the shape that the model needs, by our names.
        unused: what the file may hold besides.
        source: the file, for the error.

    Raises:
        ValueError: one line that lists all weights that are missing, unexpected or of another shape.
    """
    needed = set(names.values())
    rest = {name: tensor for name, tensor in state.items() if name not in needed}
    misshaped = [
        f"{theirs} {tuple(state[theirs].shape)} instead of {tuple(shapes[ours])}"
        for ours, theirs in names.items()
        if theirs in state and state[theirs].shape != shapes[ours]
    ]
    found = {
        "missing": [theirs for theirs in names.values() if theirs not in state],
        "unexpected": [name for name in rest if not unused.match(name)],
        "wrongly shaped": misshaped,
    }
    if any(found.values()):
        listed = "; ".join(_list_names(kind, items) for kind, items in found.items() if items)
        raise ValueError(f"{source}: the weights do not fit the model: {listed}")
    if rest:
        _LOGGER.info("%s: not used: %s", source, ", ".join(sorted(rest)))
    weights = {ours: _aligned(_as_float32(state[theirs])) for ours, theirs in names.items()}
    return TakenWeights(weights, rest)


def _list_names(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return f"{len(items)} {kind} ({', '.join(items[:MAX_LISTED])}{more})"


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _aligned(tensor: Tensor) -> Tensor:
    """Copies a weight that does not lie as PyTorch's own do, as in a mapped safetensors file.

    Some processors' matrix products (MKL on AMD) take another path for it and end in other last digits: a
    training that goes on from a file would differ from one that was never stopped.
    """
    return tensor if tensor.data_ptr() % ALIGNMENT_BYTES == 0 else tensor.clone()


def _conv_parts(config: EncoderConfig) -> Iterator[tuple[int, str, str]]:
    """Yields layer, part (conv or layer_norm) and our name of each weight of the convolutions."""
    for i in range(len(config.conv_layers)):
        prefix = f"wav2vec2.feature_extractor.conv_layers.{i}"
        yield i, "conv", f"{prefix}.conv.weight"
        if config.conv_bias:
            yield i, "conv", f"{prefix}.conv.bias"
        if config.extractor_mode == "layer_norm" or i == 0:
            yield i, "layer_norm", f"{prefix}.layer_norm.weight"
            yield i, "layer_norm", f"{prefix}.layer_norm.bias"


def _pos_conv_parts() -> Iterator[tuple[str, str]]:
    """Yields the common name and ours of each weight of the positional convolution."""
    prefix = "wav2vec2.encoder.transformer.pos_conv_embed.conv"
    yield "bias", f"{prefix}.bias"
    for kind, original in _WEIGHT_NORM.items():
        yield kind, f"{prefix}.parametrizations.weight.{original}"
