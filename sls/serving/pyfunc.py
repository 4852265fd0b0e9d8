"""The served model: audio in, scores out. MLflow loads this file as code beside the weights.

Input, by row: `audio`, a WAV, FLAC, MP3 or OGG file as base64, of any rate, mono or stereo; or `samples`, a list of
numbers (full scale at 1, one channel), with `sample_rate_hz`.
Output, by row:
    score             log-probability of bona fide speech; higher is more bona fide
    duration_used_s   seconds that the countermeasure heard; a shorter recording was repeated
    warnings          short, clipped, silent, cancelled, offset, narrow, unfinished (`sls.data.audio.warnings`): those
                      that hold, separated by commas
    error             empty, or why the recording cannot be used; its numbers are then missing
With a calibration also:
    llr               log-likelihood ratio, bona fide against spoof, natural logarithm
    probability_bonafide, decision (bonafide or spoof), llr_threshold: at the prior and costs of the
                      parameters spoof_prior, miss_cost and false_alarm_cost
    outside, unproven among the warnings (`sls.metrics.calibration`)
Without one these columns are absent: a score alone is no decision. The parameter `layer_weights` adds a column of
that name: how much the countermeasure listened to each layer of XLS-R, as a JSON list. The parameter `curve` adds one
of the scores along the whole recording, a window every `curve_hop_s` seconds: a JSON list of start_s and score.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from sls.engine.evaluation.calibration import load_calibration
from sls.models.checkpoints import load_checkpoint
from sls.serving.answers import Answerer
from sls.serving.contract import limits_from_environment, precision_from_environment, read_params
from sls.serving.errors import guard_server


class ServedCountermeasure(PythonModel):
    """A countermeasure behind `mlflow models serve` or `mlflow.pyfunc.load_model`."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint and its calibration; called once, before the first prediction."""
        calibration = context.artifacts.get("calibration")
        limits = limits_from_environment()
        self._answerer = Answerer(
            load_checkpoint(context.artifacts["checkpoint"]),
            load_calibration(calibration) if calibration else None,
            limits,
            precision_from_environment(),
        )
        guard_server(limits.max_request_bytes)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Scores each row, or says why not; raises RefusedRequest (400) where none can be, or for a parameter."""
        return self._answerer.answer(model_input, read_params(params))


mlflow.models.set_model(ServedCountermeasure())
