"""What the served model takes and answers: its signature, its parameters and its limits."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, get_args

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from sls.data.audio.uploads import UploadLimits
from sls.engine.compute.precision import Precision
from sls.metrics.dcf import DetectionCosts
from sls.quotation import quote
from sls.serving.errors import RefusedRequest

AUDIO, SAMPLES, RATE = "audio", "samples", "sample_rate_hz"
LAYER_WEIGHTS, CURVE, CURVE_HOP = "layer_weights", "curve", "curve_hop_s"
MAX_ROWS = 64
MAX_WINDOWS = 128
MAX_REQUEST_BYTES = 128 * 2**20
DEFAULT_CURVE_HOP_S = 2.0
LIMIT_VARIABLES = {
    "max_bytes": "SLS_SERVE_MAX_BYTES",
    "max_duration_s": "SLS_SERVE_MAX_DURATION_S",
    "max_rows": "SLS_SERVE_MAX_ROWS",
    "max_windows": "SLS_SERVE_MAX_WINDOWS",
    "max_request_bytes": "SLS_SERVE_MAX_REQUEST_BYTES",
}
PRECISION_VARIABLE = "SLS_SERVE_PRECISION"

_STRING, _DOUBLE = DataType.string, DataType.double
OUTPUTS = {"score": _DOUBLE, "duration_used_s": _DOUBLE, "warnings": _STRING, "error": _STRING}
CALIBRATED_OUTPUTS = {
    "llr": _DOUBLE,
    "probability_bonafide": _DOUBLE,
    "decision": _STRING,
    "threshold": _DOUBLE,
}
ALWAYS_PRESENT = ("warnings", "error")


@dataclass(frozen=True)
class ServingLimits:
    """What one request may hold."""

    upload: UploadLimits = field(default_factory=UploadLimits)
    max_rows: int = MAX_ROWS
    max_windows: int = MAX_WINDOWS
    """Of all curves together: each window costs as much as a row."""
    max_request_bytes: int = MAX_REQUEST_BYTES
    """Of all of it, as it comes over HTTP."""


@dataclass(frozen=True)
class RequestParams:
    """The parameters of one request."""

    costs: DetectionCosts
    with_layer_weights: bool = False
    curve_hop_s: float | None = None
    """Seconds between the windows of the curve; None: no curve."""


def make_signature(is_calibrated: bool) -> ModelSignature:
    """Returns the signature of the served model; without a calibration there is no decision.

    A row brings either `audio` or `samples` and `sample_rate_hz`. These two are of any type, because MLflow would
    refuse a whole request for one row in which a typed list is missing; the model checks them row by row.
    """
    costs = DetectionCosts()
    outputs = {**OUTPUTS, **(CALIBRATED_OUTPUTS if is_calibrated else {})}
    columns = [ColSpec(kind, name, required=name in ALWAYS_PRESENT) for name, kind in outputs.items()]
    extras = [ColSpec(_STRING, name, required=False) for name in (LAYER_WEIGHTS, CURVE)]
    untyped = [ColSpec(AnyType(), name, required=False) for name in (SAMPLES, RATE)]
    return ModelSignature(
        inputs=Schema([ColSpec(_STRING, AUDIO, required=False), *untyped]),
        outputs=Schema([*columns, *extras]),
        params=ParamSchema(
            [
                ParamSpec("spoof_prior", _DOUBLE, costs.spoof_prior),
                ParamSpec("miss_cost", _DOUBLE, float(costs.miss_cost)),
                ParamSpec("false_alarm_cost", _DOUBLE, float(costs.false_alarm_cost)),
                ParamSpec(LAYER_WEIGHTS, DataType.boolean, False),
                ParamSpec(CURVE, DataType.boolean, False),
                ParamSpec(CURVE_HOP, _DOUBLE, DEFAULT_CURVE_HOP_S),
            ]
        ),
    )


def read_params(params: dict[str, Any] | None) -> RequestParams:
    """Reads the parameters of a request; what is not given is that of ASVspoof 5.

    Raises:
        RefusedRequest: a prior that is no share, or a cost or step that is not positive.
    """
    given = dict(params or {})
    with_layer_weights = bool(given.pop(LAYER_WEIGHTS, False))
    with_curve = bool(given.pop(CURVE, False))
    values = {name: float(value) for name, value in given.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise RefusedRequest(f"{name}: found {value}, expected a number")
    hop_s = values.pop(CURVE_HOP, DEFAULT_CURVE_HOP_S)
    if hop_s <= 0:
        raise RefusedRequest(f"{CURVE_HOP}: found {hop_s:g}, expected a positive number of seconds")
    try:
        return RequestParams(DetectionCosts(**values), with_layer_weights, hop_s if with_curve else None)
    except ValueError as error:
        raise RefusedRequest(str(error)) from None


def limits_from_environment() -> ServingLimits:
    """Returns the limits: the defaults, or what the environment says (`LIMIT_VARIABLES`).

    Raises:
        ValueError: one of them is not a positive number.
    """
    given = {name: _read_limit(variable) for name, variable in LIMIT_VARIABLES.items()}
    found = {name: value for name, value in given.items() if value is not None}
    upload = UploadLimits()
    return ServingLimits(
        UploadLimits(
            int(found.pop("max_bytes", upload.max_bytes)),
            found.pop("max_duration_s", upload.max_duration_s),
        ),
        **{name: int(value) for name, value in found.items()},
    )


def _read_limit(variable: str) -> float | None:
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{variable}: found {quote(text)}, expected a positive number")
    return value


def precision_from_environment() -> Precision:
    """Returns the precision of SLS_SERVE_PRECISION: fp32, in which scores are made, or bf16.

    Raises:
        ValueError: it is neither.
    """
    text = os.environ.get(PRECISION_VARIABLE, "") or "fp32"
    known: tuple[Precision, ...] = tuple(name for name in get_args(Precision) if name != "tf32")
    for name in known:
        if text == name:
            return name
    raise ValueError(f"{PRECISION_VARIABLE}: found {quote(text)}, expected one of {', '.join(known)}")
