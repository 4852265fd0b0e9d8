"""What the served model takes and answers: its signature, its limits, and the answer for each row."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from sls.data.audio import AudioError, fit_length
from sls.data.protocols import Label
from sls.data.uploads import UploadLimits, decode_base64, read_upload
from sls.metrics.calibration import Calibration
from sls.metrics.dcf import DetectionCosts
from sls.models.checkpoints import LoadedCheckpoint

AUDIO = "audio"
MAX_ROWS = 64
BATCH_SIZE = 8
"""Rows that go through the model at once; bounds its memory, whatever the request."""
LIMIT_VARIABLES = {
    "max_bytes": "SLS_SERVE_MAX_BYTES",
    "max_duration_s": "SLS_SERVE_MAX_DURATION_S",
    "max_rows": "SLS_SERVE_MAX_ROWS",
}

_STRING, _DOUBLE = DataType.string, DataType.double
_OUTPUTS = {"score": _DOUBLE, "duration_used_s": _DOUBLE, "warnings": _STRING, "error": _STRING}
_CALIBRATED_OUTPUTS = {
    "llr": _DOUBLE,
    "probability_bonafide": _DOUBLE,
    "decision": _STRING,
    "threshold": _DOUBLE,
}
LAYER_WEIGHTS = "layer_weights"
ALWAYS_PRESENT = ("warnings", "error")


class RefusedRequest(MlflowException):
    """Answered by the server with 400 and one sentence.

    MLflow's server puts the request's data before an error's message; here the message stays as it was written,
    so that the answer does not hold the audio. (Where a request breaks the signature, by the name of a column or
    the type of a parameter, MLflow answers by itself, and quotes the data to who sent it.)
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, text: str) -> None:
        self._sentence: str = self.__dict__.get("_sentence", text)


@dataclass(frozen=True)
class ServingLimits:
    """What one request may hold."""

    upload: UploadLimits = field(default_factory=UploadLimits)
    max_rows: int = MAX_ROWS


@dataclass(frozen=True)
class RequestParams:
    """The parameters of one request."""

    costs: DetectionCosts
    with_layer_weights: bool


def make_signature(is_calibrated: bool) -> ModelSignature:
    """Returns the signature of the served model; without a calibration there is no decision."""
    costs = DetectionCosts()
    outputs = {**_OUTPUTS, **(_CALIBRATED_OUTPUTS if is_calibrated else {})}
    columns = [ColSpec(kind, name, required=name in ALWAYS_PRESENT) for name, kind in outputs.items()]
    return ModelSignature(
        inputs=Schema([ColSpec(_STRING, AUDIO)]),
        outputs=Schema([*columns, ColSpec(_STRING, LAYER_WEIGHTS, required=False)]),
        params=ParamSchema(
            [
                ParamSpec("spoof_prior", _DOUBLE, costs.spoof_prior),
                ParamSpec("miss_cost", _DOUBLE, float(costs.miss_cost)),
                ParamSpec("false_alarm_cost", _DOUBLE, float(costs.false_alarm_cost)),
                ParamSpec(LAYER_WEIGHTS, DataType.boolean, False),
            ]
        ),
    )


def limits_from_environment() -> ServingLimits:
    """Returns the limits: the defaults, or what SLS_SERVE_MAX_BYTES, _DURATION_S and _ROWS say.

    Raises:
        ValueError: one of them is not a positive number.
    """
    default = ServingLimits()
    values = {
        "max_bytes": float(default.upload.max_bytes),
        "max_duration_s": default.upload.max_duration_s,
        "max_rows": float(default.max_rows),
    }
    for name, variable in LIMIT_VARIABLES.items():
        text = os.environ.get(variable, "")
        if not text:
            continue
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = 0
        if not (math.isfinite(values[name]) and values[name] > 0):
            raise ValueError(f"{variable}: found {text!r}, expected a positive number")
    upload = UploadLimits(int(values["max_bytes"]), values["max_duration_s"])
    return ServingLimits(upload, int(values["max_rows"]))


def read_params(params: dict[str, Any] | None) -> RequestParams:
    """Reads the parameters of a request; what is not given is that of ASVspoof 5.

    Raises:
        RefusedRequest: a prior that is no share, or a cost that is not positive.
    """
    given = dict(params or {})
    with_layer_weights = bool(given.pop(LAYER_WEIGHTS, False))
    values = {name: float(value) for name, value in given.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise RefusedRequest(f"{name}: found {value}, expected a number")
    try:
        return RequestParams(DetectionCosts(**values), with_layer_weights)
    except ValueError as error:
        raise RefusedRequest(str(error)) from None


class Answerer:
    """Answers requests with one countermeasure. It changes nothing of itself, so threads may share it.

    Args:
        checkpoint: the countermeasure, in evaluation mode.
        calibration: from scores to log-likelihood ratios; without one, answers hold no decision.
        limits: what a request may hold.
    """

    def __init__(
        self, checkpoint: LoadedCheckpoint, calibration: Calibration | None, limits: ServingLimits
    ) -> None:
        self.checkpoint, self.calibration, self.limits = checkpoint, calibration, limits

    def answer(self, values: list[Any], params: RequestParams) -> pd.DataFrame:
        """Returns one row for each recording, in order.

        Args:
            values: recordings, as base64.
            params: of the request.

        Raises:
            RefusedRequest: no row can be used, or there are none or too many.
        """
        if not 1 <= len(values) <= self.limits.max_rows:
            raise RefusedRequest(f"found {len(values)} rows, expected 1 to {self.limits.max_rows}")
        rows: list[dict[str, Any]] = []
        waveforms: dict[int, np.ndarray] = {}
        for index, value in enumerate(values):
            row, waveform = self._read(value)
            rows.append(row)
            if waveform is not None:
                waveforms[index] = waveform
        if not waveforms:
            count = f"none of {len(rows)} recordings can be used; the first: " if len(rows) > 1 else ""
            raise RefusedRequest(count + rows[0]["error"])
        good = list(waveforms)
        for start in range(0, len(good), BATCH_SIZE):
            batch = good[start : start + BATCH_SIZE]
            self._score([rows[index] for index in batch], [waveforms[index] for index in batch], params)
        if all(row["error"] for row in rows):
            raise RefusedRequest(rows[good[0]]["error"])
        return self._tabulate(rows, params)

    def _read(self, value: Any) -> tuple[dict[str, Any], np.ndarray | None]:
        info = self.checkpoint.info
        longest_s = info.num_samples / info.sample_rate_hz
        try:
            content = decode_base64(value, self.limits.upload.max_bytes)
            upload = read_upload(content, info.sample_rate_hz, self.limits.upload)
        except AudioError as error:
            return {"warnings": "", "error": f"{AUDIO}: {error}"}, None
        used_s = min(upload.duration_s, longest_s)
        row = {"duration_used_s": used_s, "warnings": ", ".join(upload.warnings(used_s)), "error": ""}
        # A copy, so that a long recording does not stay in memory for its first seconds.
        return row, fit_length(upload.waveform, info.num_samples).copy()

    def _score(self, rows: list[dict[str, Any]], waveforms: list[np.ndarray], params: RequestParams) -> None:
        with torch.inference_mode():
            explanation = self.checkpoint.model.explain(torch.from_numpy(np.stack(waveforms)))
        scores = explanation.log_probs[:, Label.BONAFIDE].double().numpy()
        weights = explanation.layer_weights.double().numpy()
        for row, score, layer_weights in zip(rows, scores, weights, strict=True):
            if not np.isfinite(score):
                row["error"] = f"{AUDIO}: the score of this recording is not finite"
                continue
            row["score"] = float(score)
            if params.with_layer_weights:
                row[LAYER_WEIGHTS] = json.dumps([round(float(weight), 6) for weight in layer_weights])
            if self.calibration is not None:
                row |= decide(float(self.calibration.apply(score)), params.costs)

    def _tabulate(self, rows: list[dict[str, Any]], params: RequestParams) -> pd.DataFrame:
        names = [*_OUTPUTS, *(_CALIBRATED_OUTPUTS if self.calibration is not None else ())]
        if params.with_layer_weights:
            names.append(LAYER_WEIGHTS)
        columns = {}
        for name in names:
            values = [row.get(name) for row in rows]
            # None becomes JSON's null; in a column of numbers it would be NaN, which JSON does not have.
            columns[name] = pd.Series(values, dtype=object if None in values else None)
        return pd.DataFrame(columns)


def decide(llr: float, costs: DetectionCosts) -> dict[str, Any]:
    """Returns the probability of bona fide speech at the prior, and the decision of least expected cost.

    Args:
        llr: log-likelihood ratio, bona fide against spoof, natural logarithm.
        costs: prior and costs of both errors.
    """
    log_odds = llr + math.log((1 - costs.spoof_prior) / costs.spoof_prior)
    return {
        "llr": llr,
        "probability_bonafide": float(np.exp(-np.logaddexp(0, -log_odds))),
        "decision": "bonafide" if llr >= costs.threshold else "spoof",
        "threshold": costs.threshold,
    }
