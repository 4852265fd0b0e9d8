"""From any file of weights to a countermeasure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sls.files import file_digest, reading
from sls.models.checkpoints import native, published
from sls.models.checkpoints.fairseq_backend import FairseqXlsr
from sls.models.checkpoints.foreign_configs import parse_fairseq_config, read_huggingface_config
from sls.models.checkpoints.initial import WithoutInitialValues, initialise_encoder
from sls.models.checkpoints.names import (
    FAIRSEQ_UNUSED,
    HUGGINGFACE_UNUSED,
    check_size,
    encoder_shapes,
    fairseq_names,
    huggingface_names,
    named_weights,
    take_weights,
    unify_weight_norm,
)
from sls.models.checkpoints.native import CheckpointInfo
from sls.models.checkpoints.pickles import is_pickle, read_pickle
from sls.models.checkpoints.sources import fetch
from sls.models.checkpoints.wrappings import unwrap
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig
from sls.models.xlsr import Xlsr

Backend = Literal["torchaudio", "fairseq"]

RANDOM_SCHEME = "random:"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A countermeasure read from a file."""

    model: Countermeasure
    """In evaluation mode, on the CPU, in fp32."""
    info: CheckpointInfo
    """What the file says of itself; for a published file, what its shapes say."""
    digest: str
    """SHA-256 of the file."""


@dataclass(frozen=True)
class _Pretrained:
    """An encoder read from a file."""

    encoder: EncoderConfig
    weights: dict[str, Tensor]
    """By our names."""


def build_countermeasure(
    xlsr_model: str | Path, num_samples: int, seed: int, backend: Backend = "torchaudio"
) -> Countermeasure:
    """Returns a countermeasure ready for training: a pre-trained encoder and a new classifier.

    Args:
        xlsr_model: A fairseq file, a safetensors file in Hugging Face's layout with its config.json beside
            it, `hf://owner/repo/file[@revision]` of either, or `random:NAME` for random weights;
            `random:NAME:FILTERS` where the first convolution is to start as one of `FILTERBANKS`.
        num_samples: Length of the waveforms.
        seed: Seed of all new weights; the global generator is left as it was.
        backend: Whose implementation runs the encoder.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, not of these kinds, or asks for what is not supported.
    """
    pretrained, filters = None, ""
    if str(xlsr_model).startswith(RANDOM_SCHEME):
        name, _, filters = str(xlsr_model).removeprefix(RANDOM_SCHEME).partition(":")
        if name not in NAMED_ENCODERS:
            known = ", ".join(NAMED_ENCODERS)
            raise ValueError(f"xlsr_model: found random:{name}, expected random: and {known}")
        encoder = NAMED_ENCODERS[name]
    else:
        try:
            pretrained = _read_pretrained(xlsr_model)
        except FileNotFoundError as error:
            small = f"{RANDOM_SCHEME}tiny:mel"
            raise FileNotFoundError(f"xlsr_model: {error}; {small} is a small start without one") from error
        except ValueError as error:
            raise ValueError(f"xlsr_model: {error}") from error
        encoder = pretrained.encoder
    with WithoutInitialValues():
        xlsr = Xlsr(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU: those of GPUs are not put back
        if pretrained:
            xlsr.load_state_dict(pretrained.weights, assign=True)
        else:
            try:
                initialise_encoder(xlsr, filters)
            except ValueError as error:
                raise ValueError(f"xlsr_model: {xlsr_model}: {error}") from None
        model = Countermeasure(encoder, num_samples, xlsr)
    return _with_backend(model, backend)


def load_checkpoint(
    source: str | Path, *, xlsr: str | Path | None = None, backend: Backend = "torchaudio", place: str = ""
) -> LoadedCheckpoint:
    """Reads a trained countermeasure: one of our own files, or a published SLS file.

    Args:
        source: A path or `hf://owner/repo/file[@revision]`.
        xlsr: The pre-trained XLS-R that a published file started from, for its configuration; needed where
            the shapes are not those of a known encoder. Not used for our own files.
        backend: Whose implementation runs the encoder.
        place: What messages about its weights call the checkpoint, where its file is a passing copy.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, not of these kinds, or its weights do not fit.
    """
    where = place or str(source)
    path = fetch(source)
    digest = file_digest(path)
    with reading(where):
        content, metadata = _read(path)
        state = {} if native.is_native(metadata) else unwrap(content, where)
    encoder = _read_pretrained(xlsr).encoder if xlsr and state else None
    with reading(where):
        if native.is_native(metadata):
            model, info = native.restore(content, metadata, where)
        elif state:
            model = published.restore_published(state, encoder, where)
            provenance = {"format": "published SLS", "source": str(source), "sha256": digest}
            info = CheckpointInfo(model.encoder, model.num_samples, provenance=provenance)
        else:
            raise ValueError(
                f"{where}: found no SLS countermeasure, expected one; a pre-trained encoder is a start for training, "
                "and cannot score"
            )
    return LoadedCheckpoint(_with_backend(model, backend).eval(), info, digest)


def _read_pretrained(source: str | Path) -> _Pretrained:
    path = fetch(source)
    with reading(str(path)):
        content, metadata = _read(path)
        if native.is_native(metadata) or unwrap(content, str(source)):
            raise ValueError(f"{path}: found a trained countermeasure, expected a pre-trained encoder")
        if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
            return _take_fairseq(content, str(path))
        return _take_huggingface(_flat_weights(content), source)


def _read(path: Path) -> tuple[Any, Mapping[str, str]]:
    """Returns the content of a file of weights, and the metadata of a safetensors file."""
    return (read_pickle(path), {}) if is_pickle(path) else native.read_safetensors(path)


def _take_fairseq(content: Mapping[str, Any], source: str) -> _Pretrained:
    encoder = parse_fairseq_config(content, source)
    weights = named_weights(content["model"])
    check_size(weights, encoder, source)
    names, shapes = fairseq_names(encoder), encoder_shapes(encoder)
    state = {unify_weight_norm(name): tensor for name, tensor in weights.items()}
    return _Pretrained(encoder, take_weights(state, names, shapes, FAIRSEQ_UNUSED, source))


def _take_huggingface(state: Mapping[str, Tensor], source: str | Path) -> _Pretrained:
    state = {unify_weight_norm(name.removeprefix("wav2vec2.")): tensor for name, tensor in state.items()}
    if not any(name.startswith("feature_projection.") for name in state):
        raise ValueError(f"{source}: found no wav2vec 2.0 encoder, expected fairseq's or Hugging Face's")
    encoder = read_huggingface_config(fetch(source, sibling="config.json"))
    check_size(state, encoder, str(source))
    names, shapes = huggingface_names(encoder), encoder_shapes(encoder)
    return _Pretrained(encoder, take_weights(state, names, shapes, HUGGINGFACE_UNUSED, str(source)))


def _flat_weights(content: Any) -> dict[str, Tensor]:
    """Returns the weights of a flat dictionary; nothing where the content is of another form."""
    weights = named_weights(content) if isinstance(content, Mapping) else {}
    return weights if weights and len(weights) == len(content) else {}


def _with_backend(model: Countermeasure, backend: str) -> Countermeasure:
    if backend == "fairseq":
        encoder = FairseqXlsr(model.encoder)
        encoder.load_portable_state_dict(model.xlsr.portable_state_dict())
        model.xlsr = encoder
    elif backend != "torchaudio":
        raise ValueError(f"backend: found {backend}, expected torchaudio or fairseq")
    return model
