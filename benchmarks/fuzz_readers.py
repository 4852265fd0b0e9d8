"""The readers that are fuzzed: inputs that they take, how each is called, and the one kind in which it refuses."""

from __future__ import annotations

import base64
import hashlib
import inspect
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from mlflow.pyfunc import scoring_server

from sls.config import PROJECT_ROOT
from sls.config_file import build_config, read_config_values
from sls.data.audio.recording import read_audio
from sls.data.corpora.tracks import load_formats, load_tracks
from sls.data.tables.asv_scores import read_asv_scores
from sls.data.tables.protocols import Label, read_protocol
from sls.data.tables.score_files import read_scores
from sls.engine.evaluation.calibration import load_calibration
from sls.engine.scoring.partial_scores import read_partial
from sls.metrics.calibration import LogisticCalibration, PavCalibration
from sls.models.checkpoints import (
    CheckpointInfo,
    build_countermeasure,
    export_published,
    load_checkpoint,
    save_checkpoint,
)
from sls.models.checkpoints.foreign_configs import fairseq_fields
from sls.models.checkpoints.names import fairseq_names
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import EncoderConfig
from sls.serving.answers import Answerer
from sls.serving.contract import ServingLimits, make_signature, read_params
from sls.serving.errors import RefusedRequest, guard
from sls.tracking.offline.journal_files import (
    ENTRIES_FILE,
    OPENING_FILE,
    POSITION_FILE,
    Opening,
    read_entries,
    read_opening,
    read_position,
)
from sls.tracking.scoring.score_file import known_batch_size, read_made_with

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

_BLANKS = b" \t\v\f\x1c\x1d\x1e\x1f"


class Contradiction(Exception):
    """What was read is not what stands in the file."""


@dataclass(frozen=True)
class Reader:
    """A reader that is fuzzed."""

    name: str
    file_name: str
    """Which a refusal names."""
    seeds: tuple[bytes, ...]
    """What it takes as it stands."""
    read: Callable[[Path], object]
    kinds: tuple[type[Exception], ...] = (ValueError,)
    names_file: bool = True
    wrap: Callable[[bytes], bytes] = bytes
    """Makes the file of a seed, or of a damaged one."""


def _lines(path: Path) -> list[list[bytes]]:
    """Reads a table as plainly as can be: fields that white space separates, of lines that hold some."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    rows = (re.split(rb"[ \t\v\f\x1c-\x1f]+", line.strip(_BLANKS)) for line in content.splitlines())
    return [fields for fields in rows if fields != [b""]]


def _compare(found: list[Any], expected: list[Any]) -> None:
    if found != expected:
        pairs = zip(found, expected, strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), (len(found), len(expected)))
        raise Contradiction(f"found {first[0]!r}, expected {first[1]!r}")


def _make_key(_: Path) -> Reader:
    formats = load_tracks()["ASVspoof2019-LA"].key_search or load_tracks()["ASVspoof2019-LA"].protocol_search
    assert formats is not None
    key = "".join(
        f"LA_{n:04} LA_E_{n} - {'-' if n % 3 else 'A07'} {'bonafide' if n % 3 else 'spoof'}\n"
        for n in range(40)
    )

    def read(path: Path) -> None:
        protocol = read_protocol(path, formats.formats)
        rows = _lines(path)
        _compare(list(protocol.names), [row[1].decode() for row in rows])
        assert protocol.labels is not None
        _compare([Label(label).name.lower() for label in protocol.labels], [row[4].decode() for row in rows])

    return Reader("key", "key.txt", (key.encode(), key.replace("\n", "\r\n").encode()), read)


def _make_scores(_: Path) -> Reader:
    scores = "".join(f"LA_E_{n} {-n / 7:.17g}\n" for n in range(40))

    def read(path: Path) -> None:
        table = read_scores(path)
        rows = _lines(path)
        if rows and len(rows[0]) == 2:
            _compare(list(table.names), [row[0].decode() for row in rows])
            _compare(table.scores.tolist(), [float(row[1]) for row in rows])

    four = "".join(f"LA_E_{n} A07 spoof {n / 3:.9g}\n" for n in range(40))
    return Reader("scores", "scores.txt", (scores.encode(), four.encode()), read)


def _make_asv_scores(_: Path) -> Reader:
    roles = ("target", "nontarget", "spoof")
    scores = "".join(f"{'A07' if n % 3 == 2 else 'bonafide'} {roles[n % 3]} {n / 7:.9g}\n" for n in range(40))
    return Reader("asv-scores", "asv.txt", (scores.encode(),), read_asv_scores)


def _make_trial_lists(_: Path) -> Reader:
    seeds = (
        "".join(f"t{n}.wav\n" for n in range(40)),
        "file,label\n" + "".join(f"t{n}.wav,spoof\n" for n in range(40)),
        'file|label\n"a b"|bonafide\nc|spoof\n',
        "".join(f"- t{n}.wav - - - spoof\n" for n in range(20)),
    )
    # As `read_any_protocol` does, which reads the formats anew each time.
    formats = [
        item for item in load_formats().values() if "trial" in item.columns and "score" not in item.columns
    ]
    formats.sort(key=lambda item: (not item.header, -len(item.columns)))

    def read(path: Path) -> None:
        read_protocol(path, formats, needs_labels=False)

    return Reader("trial-lists", "list.txt", tuple(map(str.encode, seeds)), read)


def _make_tracks(_: Path) -> Reader:
    whole = (PROJECT_ROOT / "configs" / "tracks.yaml").read_bytes()
    own = b"""tracks:
  Mine:
    title: &t Mine
    corpus: *t
    metrics: [eer, cllr]
    folders: [mine, .]
    counts: {eval: {trials: 5, bonafide: 2, spoof: 3}}
    key: {files: [key.csv], formats: [csv]}
    audio: {folders: [wav], extensions: [.wav]}
"""
    return Reader("tracks", "tracks.yaml", (own, own, own, whole), load_tracks)


def _make_config(_: Path) -> Reader:
    seeds = tuple((PROJECT_ROOT / "configs" / f"{name}.yaml").read_bytes() for name in ("v1", "v2", "demo"))

    def read(path: Path) -> None:
        values = read_config_values(path)
        try:
            build_config(values)
        except ValueError as error:  # a wrong value is told by its field: it may as well have been typed
            if not any(str(name) in str(error) for name in values):
                raise

    return Reader("config", "config.yaml", seeds, read)


def _write_checkpoints(scratch: Path) -> dict[str, bytes]:
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
    export_published(scratch / "published", model)
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
    files = _write_checkpoints(scratch)
    seeds = tuple(files[name] for name in ("published", "fairseq", "legacy"))
    return Reader("pth", "weights.pth", seeds, lambda path: _read_weights(path, scratch / "fairseq"))


def _make_pickle(scratch: Path) -> Reader:
    """Damages the pickle within an archive alone, whose checksums are right again then."""
    seeds, numbers = [], {}
    for content in (_write_checkpoints(scratch)[name] for name in ("published", "fairseq")):
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
    content = _write_checkpoints(scratch)["native"]
    return Reader(
        "safetensors",
        "weights.safetensors",
        (content,),
        lambda path: _read_weights(path, scratch / "fairseq"),
    )


def _make_safetensors_header(scratch: Path) -> Reader:
    content = _write_checkpoints(scratch)["native"]
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


def _make_audio(_: Path) -> Reader:
    rng = np.random.default_rng(1)
    samples = 0.1 * rng.standard_normal((2_000, 1))
    seeds = []
    for form, kind in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("MP3", None),
    ):
        content = io.BytesIO()
        soundfile.write(content, samples, 8_000 if form == "WAV" else 16_000, format=form, subtype=kind)
        seeds.append(content.getvalue())

    def read(path: Path) -> None:
        waveform = read_audio(path)
        if waveform.ndim != 1 or not len(waveform) or not np.isfinite(waveform).all():
            raise Contradiction(f"a waveform of shape {waveform.shape}, or not of numbers")

    return Reader("audio", "recording.bin", tuple(seeds), read)


def _make_journal(_: Path) -> Reader:
    opening = Opening(
        source="train",
        name="a",
        tracking_uri="http://x",
        experiment={"name": "e"},
        start_ms=1,
        journal_id="j",
    )
    position = {"next": 1, "run_id": "r", "refused": []}
    entries = [
        {"number": n, "call": "log_metrics", "arguments": {"metrics": {"a": 1.5}}, "has_files": False}
        for n in range(3)
    ]
    parts = [json.dumps(asdict(opening)), json.dumps(position), "\n".join(map(json.dumps, entries)) + "\n"]
    marks = b"\x00opening\x00", b"\x00position\x00", b"\x00entries\x00"

    def read(path: Path) -> None:
        """Reads a journal whose three files stand in one, each behind its mark."""
        content = path.read_bytes()
        for mark, name in zip(marks, (OPENING_FILE, POSITION_FILE, ENTRIES_FILE), strict=True):
            (path.parent / name).write_bytes(content.partition(mark)[2].partition(b"\x00end\x00")[0])
        read_position(path.parent)
        for part in (read_opening, lambda journal: read_entries(journal, read_position(journal))):
            try:
                part(path.parent)
            except ValueError as error:
                if str(path.parent) not in str(error):
                    raise

    seed = b"".join(mark + part.encode() + b"\x00end\x00" for mark, part in zip(marks, parts, strict=True))
    return Reader("journal", "journal", (seed,), read)


def _make_manifest(_: Path) -> Reader:
    made_with = {
        **{
            "track": "LA",
            "corpus": "c",
            "model": "m",
            "protocol": "p",
            "protocol_sha256": "0",
            "counts": {"trials": 2},
        },
        **{
            "model_tags": {"a": "b"},
            "num_trials": 2,
            "eval_batch_size": 8,
            "precision": "fp32",
            "window_hop": 0,
        },
    }
    partial = json.dumps(made_with) + "\nt0 0.5\nt1 -1.25\n"
    scores = b"t0 0.5\nt1 -1.25\n"

    def read(path: Path) -> None:
        """Reads the input as the JSON beside a score file, or as a partial one, which begins with it."""
        content = path.read_bytes()
        is_beside = content.startswith(b"{\n")
        path.write_bytes(scores)
        for name, is_it in ((".json", is_beside), (".partial", not is_beside)):
            path.with_name(path.name + name).unlink(missing_ok=True)
            if is_it:
                path.with_name(path.name + name).write_bytes(content)
        known_batch_size(path)
        read_made_with(path) if is_beside else read_partial(path.with_name(f"{path.name}.partial"))

    digest = hashlib.sha256(scores).hexdigest()
    sidecar = json.dumps({**made_with, "scores_sha256": digest}, indent=2)
    return Reader("manifest", "scores.txt", (partial.encode(), sidecar.encode()), read)


def _make_calibration(_: Path) -> Reader:
    seeds = (
        LogisticCalibration(2.5, -1.0, (-4.0, 0.0)).to_dict(),
        PavCalibration((-1.0, 0.0, 2.0), (-3.0, 0.0, 1.5)).to_dict(),
    )

    def read(path: Path) -> None:
        llrs = load_calibration(path).apply(np.linspace(-30, 30, 7))
        if not np.isfinite(llrs).all() or (np.diff(llrs) < 0).any():
            raise Contradiction(f"ratios {llrs.tolist()}")

    return Reader(
        "calibration", "calibration.json", tuple(json.dumps(seed, indent=1).encode() for seed in seeds), read
    )


def _make_request(scratch: Path) -> Reader:
    _write_checkpoints(scratch)
    signature = make_signature(is_calibrated=False)
    answerer = Answerer(load_checkpoint(scratch / "native"), None, ServingLimits(max_duration_s=5))
    content = io.BytesIO()
    soundfile.write(content, 0.1 * np.ones(400), 16_000, format="WAV")
    audio = base64.b64encode(content.getvalue()).decode()
    params = {"spoof_prior": 0.5, "curve": False}

    def predict(table: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        return answerer.answer(pd.DataFrame(table), read_params(dict(params or {})))

    model = SimpleNamespace(
        metadata=SimpleNamespace(get_params_schema=lambda: signature.params), predict=predict
    )
    guarded = guard(inspect.unwrap(scoring_server.invocations), 10**7)
    bodies = (
        {"dataframe_records": [{"audio": audio}], "params": params},
        {"dataframe_split": {"columns": ["audio"], "data": [[audio]]}},
        {"inputs": {"audio": [audio]}, "params": {"curve": True}},
        {"dataframe_records": [{"samples": [0.5, -0.25, 0.1], "sample_rate_hz": 16_000}], "params": params},
    )

    def read(path: Path) -> None:
        guarded(path.read_bytes(), "application/json", model, signature.inputs)

    seeds = tuple(json.dumps(body).encode() for body in bodies)
    return Reader("request", "request.json", seeds, read, (RefusedRequest,), names_file=False)


READERS: Mapping[str, Callable[[Path], Reader]] = {
    "key": _make_key,
    "scores": _make_scores,
    "asv-scores": _make_asv_scores,
    "trial-lists": _make_trial_lists,
    "tracks": _make_tracks,
    "config": _make_config,
    "pth": _make_pth,
    "pickle": _make_pickle,
    "safetensors": _make_safetensors,
    "safetensors-header": _make_safetensors_header,
    "audio": _make_audio,
    "journal": _make_journal,
    "manifest": _make_manifest,
    "calibration": _make_calibration,
    "request": _make_request,
}
"""By name; each is made in a directory for what it needs besides."""
