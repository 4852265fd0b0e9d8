"""Our own checkpoint: one safetensors file that says by itself what it holds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sls.config import NUM_SAMPLES, SAMPLE_RATE_HZ, require
from sls.files import write_whole
from sls.models.checkpoints.initial import WithoutInitialValues
from sls.models.checkpoints.names import check_size, fill_countermeasure
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import EncoderConfig
from sls.plain_data import parse_json
from sls.quotation import first_line, quote, shorten

FORMAT = "sls-countermeasure/1"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "num_samples": (int,),
    "sample_rate_hz": (int,),
    "epoch": (int, type(None)),
    "recipe": (str, type(None)),
    "run_id": (str, type(None)),
    "config": (dict,),
    "provenance": (dict,),
}
"""Types of what a description says beside the encoder."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    encoder: EncoderConfig
    """Shape of the encoder."""
    num_samples: int = NUM_SAMPLES
    """Length of the waveforms that the countermeasure takes, in samples."""
    sample_rate_hz: int = SAMPLE_RATE_HZ
    """Sampling rate of those waveforms."""
    epoch: int | None = None
    """The epoch after which it was saved, from 0; none where it is not known."""
    recipe: str | None = None
    """Name of the recipe."""
    run_id: str | None = None
    """The tracked run that made it."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The whole configuration of the experiment, flat."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: data, code, source file, digest, licence."""


def save_checkpoint(path: str | Path, model: Countermeasure, info: CheckpointInfo) -> Path:
    """Writes weights and description into one file, by custom `.safetensors`, whole or not at all.

    Raises:
        ValueError: if the description does not belong to the model, or is not plain data.
    """
    if (info.encoder, info.num_samples) != (model.encoder, model.num_samples):
        raise ValueError(
            f"{path}: the description is of {info.encoder} and {info.num_samples} samples, "
            f"the model has {model.encoder} and {model.num_samples}"
        )
    path = Path(path)
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.portable_state_dict().items()
    }
    with write_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, "info": _describe(info, path)})
    return path


def is_native(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file's metadata are those of our own format, of any version."""
    return metadata.get("format", "").startswith(FORMAT.partition("/")[0])


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns tensors and metadata of a safetensors file; raises ValueError where it is cut or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path}: no PyTorch and no whole safetensors file: {first_line(error)}") from error


def restore(
    state: Mapping[str, Tensor], metadata: Mapping[str, str], source: str
) -> tuple[Countermeasure, CheckpointInfo]:
    """Returns one of our own countermeasures, and its description; raises ValueError where they do not fit."""
    if metadata["format"] != FORMAT:
        raise ValueError(f"{source}: format: found {shorten(metadata['format'])}, expected {FORMAT}")
    info = _parse(metadata.get("info", ""), source)
    check_size(state, info.encoder, source, info.num_samples)
    with WithoutInitialValues():
        model = Countermeasure(info.encoder, info.num_samples)
    names = {name: name for name in model.state_dict()}
    fill_countermeasure(model, state, names, None, source)
    return model, info


def _describe(info: CheckpointInfo, path: Path) -> str:
    fields = {**vars(info), "encoder": asdict(info.encoder)}
    try:
        return json.dumps(fields, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the description cannot be written as JSON: {error}") from error


def _parse(text: str, source: str) -> CheckpointInfo:
    try:
        fields = parse_json(text)
        info = CheckpointInfo(**{**fields, "encoder": EncoderConfig.from_dict(fields["encoder"])})
        for name, kinds in _KINDS.items():
            found = getattr(info, name)
            require(type(found) in kinds, name, quote(found), kinds[0].__name__)
        return info
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: the description cannot be read: {first_line(error)}") from error
