"""The served model: audio in, scores out. MLflow loads this file as code beside the weights.

Input: a column `audio`, each value a WAV, FLAC, MP3 or OGG file as base64.
Output: a column `score`, the log-probability of bona fide speech (higher is more bona fide).
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema

from sls.data.audio import fit_length, read_audio
from sls.models.checkpoints import load_checkpoint

BONAFIDE_COLUMN = 1

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "audio")]),
    outputs=Schema([ColSpec(DataType.double, "score")]),
)


class ServedCountermeasure(PythonModel):
    """A countermeasure behind `mlflow models serve` or `mlflow.pyfunc.load_model`."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint; called once, before the first prediction."""
        checkpoint = load_checkpoint(context.artifacts["checkpoint"])
        self._model = checkpoint.model.eval()
        self._info = checkpoint.info

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Scores each row.

        Raises:
            MlflowException: a row that is not base64 or not audio (answered with 400 by the server).
        """
        waveforms = [self._decode(row, value) for row, value in enumerate(model_input["audio"])]
        with torch.inference_mode():
            log_probs = self._model(torch.from_numpy(np.stack(waveforms)))
        return pd.DataFrame({"score": log_probs[:, BONAFIDE_COLUMN].double().numpy()})

    def _decode(self, row: int, value: str) -> np.ndarray:
        try:
            file = io.BytesIO(base64.b64decode(value, validate=True))
            waveform = read_audio(file, self._info.sample_rate_hz)
            return fit_length(waveform, self._info.num_samples)
        except binascii.Error as error:
            raise MlflowException(f"row {row}: audio is not base64", INVALID_PARAMETER_VALUE) from error
        except ValueError as error:
            raise MlflowException(f"row {row}: {error}", INVALID_PARAMETER_VALUE) from error


mlflow.models.set_model(ServedCountermeasure())
