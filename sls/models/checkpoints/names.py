"""The names of weights: ours, which are torchaudio's, fairseq's and Hugging Face's; and what a file holds by them."""

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sls.models.checkpoints.initial import WithoutInitialValues
from sls.models.countermeasure import HIDDEN_DIM, Countermeasure, count_inputs
from sls.models.encoder_config import EncoderConfig
from sls.models.xlsr import Xlsr
from sls.quotation import MAX_QUOTED, list_some

_LOGGER = logging.getLogger(__name__)

COUNTER_ENDING = "num_batches_tracked"
SPARE_LAYERS, SPARE_NUMBERS = 100, 1 << 24  # so many more than a file holds are made in no time
ALIGNMENT_BYTES = 64  # of what PyTorch allocates on a CPU

FAIRSEQ_UNUSED = re.compile(r"(mask_emb$|quantizer\.|project_q\.|final_proj\.|target_glu\.)")
"""What serves pre-training alone, in fairseq's names."""
HUGGINGFACE_UNUSED = re.compile(r"(masked_spec_embed$|quantizer\.|project_q\.|project_hid\.|lm_head\.)")
"""What serves pre-training or speech recognition alone, in Hugging Face's names."""

_HUGGINGFACE_TO_FAIRSEQ = (
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^feature_projection\.", ""),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.conv\.", r"\1.0."),
    (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"\.attention\.", ".self_attn."),
    (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
    (r"\.feed_forward\.output_dense\.", ".fc2."),
)


@cache
def encoder_shapes(config: EncoderConfig) -> Mapping[str, torch.Size]:
    """Returns the shape of each weight of `Xlsr`, by its name."""
    with WithoutInitialValues():
        return {name: tensor.shape for name, tensor in Xlsr(config).state_dict().items()}


def huggingface_names(config: EncoderConfig) -> dict[str, str]:
    """Returns Hugging Face's name of each weight of `Xlsr`, without the leading `wav2vec2.`, by ours."""
    names = {}
    for ours in encoder_shapes(config):
        theirs = ours.removeprefix("wav2vec2.").replace("encoder.feature_projection.", "feature_projection.")
        names[ours] = unify_weight_norm(theirs.replace("encoder.transformer.", "encoder."))
    return names


def fairseq_names(config: EncoderConfig) -> dict[str, str]:
    """Returns fairseq's name of each weight of `Xlsr`, by ours, for an encoder of this shape."""
    norm = r"\1.2.1." if config.extractor_mode == "layer_norm" else r"\1.2."
    names = huggingface_names(config)
    for pattern, part in (
        *_HUGGINGFACE_TO_FAIRSEQ,
        (r"^(feature_extractor\.conv_layers\.\d+)\.layer_norm\.", norm),
    ):
        names = {ours: re.sub(pattern, part, theirs) for ours, theirs in names.items()}
    return names


def unify_weight_norm(name: str) -> str:
    """Returns the name with weight normalisation spelled as in older files: `weight_g`, `weight_v`."""
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = name.replace(f"parametrizations.weight.{new}", old)
    return name


def check_size(
    state: Mapping[str, Tensor], encoder: EncoderConfig, source: str, num_samples: int | None = None
) -> None:
    """Checks that a file holds as much as a model needs, before the model is made.

    By `num_samples` that is a whole countermeasure; without, an encoder.

    Raises:
        ValueError: It holds far less. Where it holds a little less, `take_weights` can say what is missing.
    """
    num_layers, num_weights = encoder.num_layers + len(encoder.conv_layers), encoder.num_weights
    if num_samples is not None:
        num_weights += count_inputs(encoder.dim, encoder.count_frames(num_samples)) * HIDDEN_DIM
    held = sum(tensor.numel() for tensor in state.values())
    if num_layers > len(state) + SPARE_LAYERS or num_weights > 2 * held + SPARE_NUMBERS:
        raise ValueError(
            f"{source}: found {len(state)} weights of {held} numbers, expected more for an encoder of {num_layers} "
            f"layers and {num_weights} numbers"
        )


def named_weights(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Returns what of a dictionary has a name and is a tensor."""
    return {
        name: item for name, item in content.items() if isinstance(name, str) and isinstance(item, Tensor)
    }


def take_weights(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    shapes: Mapping[str, torch.Size],
    unused: re.Pattern[str] | None,
    source: str,
) -> dict[str, Tensor]:
    """Returns the weights of a model in a file, by our names, and accounts for every other one.

    By `names` each weight that the model needs has its name in the file, by ours, and by `shapes` its shape; `unused`
    is what the file may hold besides, if anything.

    Raises:
        ValueError: one line that lists all weights that are missing, unexpected or of another shape or type, or else
            those with values that are no finite numbers.
    """
    needed = set(names.values())
    rest = {name: tensor for name, tensor in state.items() if name not in needed}
    there = [(ours, theirs) for ours, theirs in names.items() if theirs in state]
    found = {
        "missing": [theirs for theirs in names.values() if theirs not in state],
        "unexpected": [name for name in rest if unused is None or not unused.match(name)],
        "wrongly shaped": [
            f"{theirs} {tuple(state[theirs].shape)} instead of {tuple(shapes[ours])}"
            for ours, theirs in there
            if state[theirs].shape != shapes[ours]
        ],
        "of another type": [
            f"{theirs} {state[theirs].dtype}"
            for ours, theirs in there
            if not _is_type_of(ours, state[theirs])
        ],
    }
    if any(found.values()):
        listed = "; ".join(_list_names(kind, items) for kind, items in found.items() if items)
        raise ValueError(f"{source}: the weights do not fit the model: {listed}")
    taken = [state[theirs] for theirs in names.values()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in taken}
    if sum(tensor.nbytes for tensor in taken) > sum(storages.values()):
        raise ValueError(f"{source}: found weights that lie in one another, expected numbers for each")
    broken = [theirs for theirs in names.values() if not _is_finite(state[theirs])]
    if broken:
        raise ValueError(
            f"{source}: found {_list_names('weights that are NaN or infinite', broken)}, expected numbers"
        )
    if rest:
        _LOGGER.info("%s: not used: %s", source, ", ".join(sorted(rest)))
    return {ours: _aligned_float32(state[theirs]) for ours, theirs in names.items()}


def fill_countermeasure(
    model: Countermeasure,
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    unused: re.Pattern[str] | None,
    source: str,
) -> None:
    """Gives a countermeasure the weights of a file; arguments and errors as `take_weights`."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(take_weights(state, names, shapes, unused, source), assign=True)


def _list_names(kind: str, items: list[str]) -> str:
    return f"{len(items)} {kind} ({list_some(items, 2 * MAX_QUOTED)})"


def _is_type_of(ours: str, tensor: Tensor) -> bool:
    """Whether a weight is of real numbers, or a counter of whole ones."""
    if ours.endswith(COUNTER_ENDING):
        return tensor.dtype in (torch.int64, torch.int32)
    return tensor.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite: their sum says so in most cases, at a tenth of the time."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _aligned_float32(tensor: Tensor) -> Tensor:
    """Copies a weight of another precision, or that does not lie as PyTorch's do, as in a mapped safetensors file.

    Some processors' matrix products (MKL on AMD) take another path for it and end in other last digits: a
    training that goes on from a file would differ from one that was never stopped.
    """
    tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
    return tensor if tensor.data_ptr() % ALIGNMENT_BYTES == 0 else tensor.clone()
