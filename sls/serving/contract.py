"""What the served model takes and answers: its signature, its parameters and its limits."""

import math
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from sls.config import Precision
from sls.data.audio.uploads import UploadLimits
from sls.metrics.dcf import DetectionCosts
from sls.quotation import quote
from sls.serving.errors import RefusedRequest

AUDIO, SAMPLES, RATE = "audio", "samples", "sample_rate_hz"
LAYER_WEIGHTS, CURVE, CURVE_HOP = "layer_weights", "curve", "curve_hop_s"
DEFAULT_CURVE_HOP_S = 2.0
LIMIT_PREFIX = "SLS_SERVE_"
"""Of the environment variables that set a limit, such as SLS_SERVE_MAX_BYTES."""
PRECISION_VARIABLE = "SLS_SERVE_PRECISION"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

_STRING, _DOUBLE = DataType.string, DataType.double
OUTPUTS = {"score": _DOUBLE, "duration_used_s": _DOUBLE, "warnings": _STRING, "error": _STRING}
CALIBRATED_OUTPUTS = {
    "llr": _DOUBLE,
    "probability_bonafide": _DOUBLE,
    "decision": _STRING,
    "llr_threshold": _DOUBLE,
    "calibration": _STRING,
}
ALWAYS_PRESENT = ("warnings", "error")


@dataclass(frozen=True)
class ServingLimits(UploadLimits):
    """What one request may hold, beside the limits of each recording."""

    max_rows: int = 64
    max_windows: int = 128
    """Of all curves together: each window costs as much as a row."""
    max_request_bytes: int = 128 * 2**20
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
    costs = asdict(DetectionCosts())
    outputs = {**OUTPUTS, **(CALIBRATED_OUTPUTS if is_calibrated else {})}
    columns = [ColSpec(kind, name, required=name in ALWAYS_PRESENT) for name, kind in outputs.items()]
    extras = [ColSpec(_STRING, name, required=False) for name in (LAYER_WEIGHTS, CURVE)]
    untyped = [ColSpec(AnyType(), name, required=False) for name in (SAMPLES, RATE)]
    return ModelSignature(
        inputs=Schema([ColSpec(_STRING, AUDIO, required=False), *untyped]),
        outputs=Schema([*columns, *extras]),
        params=ParamSchema(
            [
                *(ParamSpec(name, _DOUBLE, float(value)) for name, value in costs.items()),
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
    """Returns the limits, as variables of `LIMIT_PREFIX` set them; raises ValueError for what is not positive."""
    given: dict[str, Any] = {}
    for limit in fields(ServingLimits):
        variable = f"{LIMIT_PREFIX}{limit.name.upper()}"
        if text := os.environ.get(variable):
            try:
                value = float(text)
            except ValueError:
                value = 0
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{variable}: found {quote(text)}, expected a positive number")
            given[limit.name] = value if isinstance(limit.default, float) else int(value)
    return ServingLimits(**given)


def precision_from_environment() -> Precision:
    """Returns the precision of SLS_SERVE_PRECISION, fp32 by default; raises ValueError for none of `PRECISIONS`."""
    text = os.environ.get(PRECISION_VARIABLE) or "fp32"
    if text not in PRECISIONS:
        raise ValueError(f"{PRECISION_VARIABLE}: found {quote(text)}, expected {', '.join(PRECISIONS)}")
    return text
