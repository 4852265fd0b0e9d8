"""Readers of weights that are fuzzed."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from benchmarks.fuzz_tables import Contradiction, Reader
from benchmarks.published_weights import write_published
from sls.models.checkpoints import (
    CheckpointInfo,
    build_countermeasure,
    load_checkpoint,
    save_checkpoint,
)
from sls.models.checkpoints.foreign_configs import fairseq_fields
from sls.models.checkpoints.names import fairseq_names
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import EncoderConfig

NUM_SAMPLES = 240
ENCODER = EncoderConfig(
    conv_layers=((4, 10, 5), (4, 4, 4)),
    dim=6,
    num_layers=1,
    num_heads=1,
    ffn_dim=6,
    pos_conv_kernel=2,
    pos_conv_groups=1,
)
"""As small as an encoder can be."""


def write_checkpoints(scratch: Path) -> dict[str, bytes]:
    """Returns the files of one small countermeasure, by form."""
    torch.manual_seed(1)
    model = Countermeasure(ENCODER, NUM_SAMPLES).eval()
    weights = model.xlsr.portable_state_dict()
    state = {theirs: weights[ours] for ours, theirs in fairseq_names(ENCODER).items()}
    content = {
        "args": None,
        "cfg": {"model": {"_name": "wav2vec2", **fairseq_fields(ENCODER)}},
        "model": state,
    }
    for name, is_zip in (("fairseq", True), ("legacy", False)):
        torch.save(content, scratch / name, _use_new_zipfile_serialization=is_zip)
    write_published(scratch / "published", model)
    save_checkpoint(scratch / "native", model, CheckpointInfo(ENCODER, NUM_SAMPLES, epoch=1, recipe="v1"))
    return {name: (scratch / name).read_bytes() for name in ("fairseq", "legacy", "published", "native")}


def _read_weights(path: Path, xlsr: Path) -> None:
    """Reads a file as a start for training, and as a countermeasure; it may be one of them."""
    refusals = []
    for load in (
        lambda: build_countermeasure(path, NUM_SAMPLES, 1),
        lambda: load_checkpoint(path, xlsr=xlsr).model,
    ):
        try:
            model = load()
        except ValueError as error:
            if path.name not in str(error):
                raise
            refusals.append(error)
            continue
        if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
            raise Contradiction("weights that are not finite")
    if len(refusals) > 1:
        raise ValueError("; ".join(map(str, refusals)))  # both are looked at


def _make_pth(scratch: Path) -> Reader:
    files = write_checkpoints(scratch)
    seeds = tuple(files[name] for name in ("published", "fairseq", "legacy"))
    return Reader("pth", "weights.pth", seeds, lambda path: _read_weights(path, scratch / "fairseq"))


def _make_pickle(scratch: Path) -> Reader:
    """Damages the pickle within an archive alone, whose checksums are right again then."""
    seeds: list[bytes] = []
    numbers: dict[str, bytes] = {}
    for content in (write_checkpoints(scratch)[name] for name in ("published", "fairseq")):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        seeds.append(parts.pop("data.pkl"))
        numbers |= parts

    def wrap(pickled: bytes) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, part in {"data.pkl": pickled, **numbers}.items():
                archive.writestr(f"weights/{name}", part)
        return content.getvalue()

    return Reader(
        "pickle",
        "weights.pth",
        tuple(seeds),
        lambda path: _read_weights(path, scratch / "fairseq"),
        wrap=wrap,
    )


def _make_safetensors(scratch: Path) -> Reader:
    content = write_checkpoints(scratch)["native"]
    return Reader(
        "safetensors",
        "weights.safetensors",
        (content,),
        lambda path: _read_weights(path, scratch / "fairseq"),
    )


def _make_safetensors_header(scratch: Path) -> Reader:
    content = write_checkpoints(scratch)["native"]
    (length,) = struct.unpack_from("<Q", content)
    header, numbers = content[8 : 8 + length], content[8 + length :]
    description = json.loads(json.loads(header)["__metadata__"]["info"])
    metadata = {"format": "sls-countermeasure/1"}

    def wrap(damaged: bytes) -> bytes:
        told = damaged
        if damaged.startswith(b'{"config"'):  # the description, a text within the header
            info = damaged.decode(errors="replace")
            told = json.dumps({**json.loads(header), "__metadata__": {**metadata, "info": info}}).encode()
        return struct.pack("<Q", len(told)) + told + numbers

    seeds = (header, json.dumps(dict(sorted(description.items()))).encode())
    return Reader(
        "safetensors-header",
        "weights.safetensors",
        seeds,
        lambda path: _read_weights(path, scratch / "fairseq"),
        wrap=wrap,
    )


WEIGHT_READERS: Mapping[str, Callable[[Path], Reader]] = {
    "pth": _make_pth,
    "pickle": _make_pickle,
    "safetensors": _make_safetensors,
    "safetensors-header": _make_safetensors_header,
}
