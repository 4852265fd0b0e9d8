"""A tiny countermeasure as it is served."""

from pathlib import Path

import mlflow
import pytest

from sls.engine.evaluation.calibration import save_calibration
from sls.metrics.calibration import LogisticCalibration
from sls.models.checkpoints import (
    CheckpointInfo,
    LoadedCheckpoint,
    build_countermeasure,
    load_checkpoint,
    save_checkpoint,
)
from sls.serving.bundle import save_served_model
from tests.serving.uploads import NUM_SAMPLES

CALIBRATION = LogisticCalibration(2.0, 1.0)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 3)
    info = CheckpointInfo(model.encoder, NUM_SAMPLES)
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors", model, info)


@pytest.fixture(scope="session")
def loaded(checkpoint) -> LoadedCheckpoint:
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def bundle(checkpoint, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    save_calibration(directory / "mine.json", CALIBRATION)
    save_served_model(directory / "model", checkpoint, directory / "mine.json")
    return directory / "model"


@pytest.fixture(scope="session")
def served(bundle):
    return mlflow.pyfunc.load_model(str(bundle))


@pytest.fixture(scope="session")
def uncalibrated(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("uncalibrated") / "model"
    save_served_model(path, checkpoint)
    return mlflow.pyfunc.load_model(str(path))
