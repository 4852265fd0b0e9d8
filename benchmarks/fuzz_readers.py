"""The readers that are fuzzed: inputs that they take, how each is called, and the one kind in which it refuses."""

from __future__ import annotations

import base64
import hashlib
import inspect
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from mlflow.pyfunc import scoring_server

from benchmarks.fuzz_tables import TABLE_READERS, Contradiction, Reader
from benchmarks.fuzz_weights import WEIGHT_READERS, write_checkpoints
from sls.data.audio.recording import read_audio
from sls.engine.evaluation.calibration import load_calibration
from sls.engine.scoring.partial_scores import read_partial
from sls.metrics.calibration import LogisticCalibration, PavCalibration
from sls.models.checkpoints import load_checkpoint
from sls.serving.answers import Answerer
from sls.serving.contract import ServingLimits, make_signature, read_params
from sls.serving.errors import RefusedRequest, guard
from sls.tracking.offline.journal_files import (
    END,
    ENTRIES_FILE,
    OPENING_FILE,
    POSITION_FILE,
    Entry,
    Opening,
    Position,
    read_entries,
    read_opening,
    read_position,
    seal,
)
from sls.tracking.scoring.score_file import known_batch_size, read_made_with


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


_SEALED = b"sealed\n"


def _make_journal(_: Path) -> Reader:
    opening = Opening(
        source="train",
        name="a",
        tracking_uri="http://x",
        experiment={"name": "e"},
        start_ms=1,
        journal_id="j",
    )
    entries = [Entry(n, "log_metrics", {"metrics": {"a": 1.5}}, has_files=False) for n in range(3)]
    parts = {
        OPENING_FILE: seal(opening),
        POSITION_FILE: seal(Position(next=1, run_id="r")),
        ENTRIES_FILE: "\n".join(map(seal, entries)) + "\n" + END.decode(),
    }

    def read(path: Path) -> None:
        """Reads a journal whose three files stand in one, each behind its name."""
        content = path.read_bytes()
        for name in parts:
            text = content.partition(f"<{name}>\n".encode())[2].partition(b"<")[0]
            (path.parent / name).write_bytes(text)
        position = read_position(path.parent)
        for part in (read_opening, lambda journal: read_entries(journal, position)):
            try:
                part(path.parent)
            except ValueError as error:
                if str(path.parent) not in str(error):
                    raise

    def wrap(content: bytes) -> bytes:
        """Seals each line again that still is JSON, where the content asks for it."""
        return b"\n".join(map(_seal_again, content.split(b"\n"))) if content.startswith(_SEALED) else content

    seed = "".join(f"<{name}>\n{part}" for name, part in parts.items()).replace("}<", "}\n<").encode()
    return Reader("journal", "journal", (seed, _SEALED + seed), read, wrap=wrap)


def _seal_again(line: bytes) -> bytes:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(values, dict):
        return line
    values.pop("crc32", None)
    return seal(values).encode()


def _make_manifest(_: Path) -> Reader:
    made_with = {
        "track": "LA",
        "corpus": "c",
        "model": "m",
        "protocol": "p",
        "protocol_sha256": "0",
        "counts": {"trials": 2},
        "model_tags": {"a": "b"},
        "num_trials": 2,
        "eval_batch_size": 8,
        "precision": "fp32",
        "window_hop": 0,
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
    write_checkpoints(scratch)
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
    **TABLE_READERS,
    **WEIGHT_READERS,
    "audio": _make_audio,
    "journal": _make_journal,
    "manifest": _make_manifest,
    "calibration": _make_calibration,
    "request": _make_request,
}
"""By name; each is made in a directory for what it needs besides."""
