"""The served model's answer for each row: decoded, scored, and decided upon."""

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch

from sls.config import Precision
from sls.data.audio.recording import AudioError
from sls.data.audio.uploads import decode_base64, read_samples, read_upload
from sls.data.audio.windows import fit_length, window_starts
from sls.data.tables.protocols import Label
from sls.engine.compute.device import DTYPES, arithmetic
from sls.metrics.calibration import Calibration, describe_calibration, warn_of_llr
from sls.metrics.dcf import decide
from sls.models.checkpoints import LoadedCheckpoint
from sls.models.packing import pack
from sls.serving.contract import (
    AUDIO,
    CALIBRATED_OUTPUTS,
    CURVE,
    CURVE_HOP,
    LAYER_WEIGHTS,
    OUTPUTS,
    RATE,
    SAMPLES,
    RequestParams,
    ServingLimits,
)
from sls.serving.errors import RefusedRequest

BATCH_SIZE = 8
"""Windows that go through the model at once; bounds its memory, whatever the requests."""
CPU = torch.device("cpu")

Item = TypeVar("Item")
Result = TypeVar("Result")
Window = tuple[float, np.ndarray]
"""What the countermeasure says of one stretch: its score, and the weight of each layer."""


@dataclass(frozen=True)
class _Recording:
    """A row that could be read, cut into what the countermeasure hears of it."""

    row: dict[str, Any]
    """Its answer, to be filled."""
    stretches: list[np.ndarray]
    """Its beginning alone, or all windows of its curve, of which that is the first."""
    starts_s: list[float]
    """Where they begin."""


class SharedBatches(Generic[Item, Result]):
    """Calls a function of batches for threads that each have a few items.

    While one batch is computed, what other threads bring gathers into the next one; nobody waits for a batch to
    fill. One batch is computed at a time, so that the threads do not compete for the same cores.

    Args:
        compute: Returns one result for each item of a batch, in order.
        max_batch_size: The most items of a batch; bounds the memory.
    """

    def __init__(self, compute: Callable[[list[Item]], Sequence[Result]], max_batch_size: int) -> None:
        self._compute, self._max_batch_size = compute, max_batch_size
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        self._turn = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Returns the results of some items, in order; raises what computing their batch has raised."""
        jobs: list[tuple[Item, Future[Result]]] = [(item, Future()) for item in items]
        self._waiting.extend(jobs)
        while not all(future.done() for _, future in jobs):
            with self._turn:
                self._compute_next()
        return [future.result() for _, future in jobs]

    def _compute_next(self) -> None:
        count = min(len(self._waiting), self._max_batch_size)
        batch = [self._waiting.popleft() for _ in range(count)]
        if not batch:
            return
        try:
            results = self._compute([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
        except Exception as error:  # goes to the threads that brought these items
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)


class Answerer:
    """Answers requests with one countermeasure. Threads may share it: what they ask for is computed together.

    The linear layers of the encoder are packed for good. Without a calibration answers hold no decision.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        calibration: Calibration | None,
        limits: ServingLimits,
        precision: Precision = "fp32",
    ) -> None:
        self.checkpoint, self.calibration, self.limits = checkpoint, calibration, limits
        self.precision = precision
        pack(checkpoint.model, DTYPES[precision])
        self._explain = SharedBatches(self._explain_batch, BATCH_SIZE)

    def answer(self, table: pd.DataFrame, params: RequestParams) -> pd.DataFrame:
        """Returns one row for each recording, `audio`, or `samples` and `sample_rate_hz`, in order.

        Raises:
            RefusedRequest: no row can be used, or there are none or too many.
        """
        if AUDIO not in table.columns and SAMPLES not in table.columns:
            raise RefusedRequest(f"columns: expected {AUDIO}, or {SAMPLES} and {RATE}")
        if not 1 <= len(table) <= self.limits.max_rows:
            raise RefusedRequest(f"found {len(table)} rows, expected 1 to {self.limits.max_rows}")
        rows: list[dict[str, Any]] = []
        recordings: list[_Recording] = []
        num_windows_left = self.limits.max_windows
        for given in table.to_dict("records"):
            try:
                recording = self._read(given, params, num_windows_left)
            except AudioError as error:
                rows.append({"warnings": "", "error": str(error)})
                continue
            num_windows_left -= len(recording.stretches)
            recordings.append(recording)
            rows.append(recording.row)
        windows = iter(self._explain([piece for item in recordings for piece in item.stretches]))
        for recording in recordings:
            self._fill(recording, list(islice(windows, len(recording.stretches))), params)
        if all(row["error"] for row in rows):
            count = f"none of {len(rows)} recordings can be used; the first: " if len(rows) > 1 else ""
            raise RefusedRequest(count + rows[0]["error"])
        return self._tabulate(rows, params)

    def _read(self, given: Mapping[Any, Any], params: RequestParams, max_windows: int) -> _Recording:
        """Reads a row that brings a file or a list of samples; what it does not bring is None or NaN."""
        info, limits = self.checkpoint.info, self.limits
        rate_hz = info.sample_rate_hz
        brought = [name for name in (AUDIO, SAMPLES) if not _is_missing(given.get(name))]
        if len(brought) > 1:
            raise AudioError(f"found {AUDIO} and {SAMPLES} in one row, expected one of them")
        name = brought[0] if brought else AUDIO
        try:
            if name == SAMPLES:
                upload = read_samples(given[SAMPLES], given.get(RATE), rate_hz, limits)
            else:
                upload = read_upload(decode_base64(given.get(AUDIO), limits.max_bytes), rate_hz, limits)
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from None
        used_s = min(upload.duration_s, info.num_samples / rate_hz)
        row = {"duration_used_s": used_s, "warnings": upload.warnings(info.num_samples), "error": ""}
        starts = [0]
        if params.curve_hop_s is not None:
            hop = max(1, round(params.curve_hop_s * rate_hz))
            starts = window_starts(len(upload.waveform), info.num_samples, hop).tolist()
            if len(starts) > max_windows:
                raise AudioError(
                    f"{CURVE}: found {len(starts)} windows, expected at most {max_windows}; raise {CURVE_HOP}"
                )
        # Copies, so that a long recording does not stay in memory for its first seconds.
        stretches = [
            fit_length(upload.waveform[start : start + info.num_samples], info.num_samples).copy()
            for start in starts
        ]
        return _Recording(row, stretches, [start / rate_hz for start in starts])

    def _explain_batch(self, waveforms: list[np.ndarray]) -> list[Window]:
        with torch.inference_mode(), arithmetic(self.precision, CPU):
            explanation = self.checkpoint.model.explain(torch.from_numpy(np.stack(waveforms)))
        scores = explanation.log_probs[:, Label.BONAFIDE].double().tolist()
        return list(zip(scores, explanation.layer_weights.double().numpy(), strict=True))

    def _fill(self, recording: _Recording, windows: list[Window], params: RequestParams) -> None:
        row, scores = recording.row, [score for score, _ in windows]
        if not all(map(math.isfinite, scores)):
            row["error"] = "the score of this recording is not finite"
            return
        row["score"], layer_weights = windows[0]
        if params.with_layer_weights:
            row[LAYER_WEIGHTS] = json.dumps([round(float(weight), 6) for weight in layer_weights])
        if params.curve_hop_s is not None:
            points = zip(recording.starts_s, scores, strict=True)
            row[CURVE] = json.dumps([{"start_s": start_s, "score": score} for start_s, score in points])
        if self.calibration is not None:
            row |= asdict(decide(float(self.calibration.apply(scores[0])), params.costs))
            row["calibration"] = describe_calibration(self.calibration)
            doubts = warn_of_llr(self.calibration, scores[0])
            row["warnings"] = ", ".join(filter(None, [row["warnings"], *doubts]))

    def _tabulate(self, rows: list[dict[str, Any]], params: RequestParams) -> pd.DataFrame:
        names = [*OUTPUTS, *(CALIBRATED_OUTPUTS if self.calibration is not None else ())]
        names += [LAYER_WEIGHTS] if params.with_layer_weights else []
        names += [CURVE] if params.curve_hop_s is not None else []
        columns = {}
        for name in names:
            values = [row.get(name) for row in rows]
            # None becomes JSON's null; in a column of numbers it would be NaN, which JSON does not have.
            columns[name] = pd.Series(values, dtype=object if None in values else None)
        return pd.DataFrame(columns)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
