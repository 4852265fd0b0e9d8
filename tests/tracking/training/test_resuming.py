"""What a training that goes on may have otherwise."""

import pytest

from sls.config import ComputeConfig, DataConfig
from sls.config_file import build_config
from sls.tracking.active_run import tracked_run
from sls.tracking.training.resuming import resumed_config


@pytest.fixture
def run_id(store) -> str:
    """A training run that has recorded its configuration alone."""
    with tracked_run("train") as run:
        run.log_config(build_config({"lr": 1e-3, "num_workers": 3}))
    return run.run_id


def test_a_resumed_training_may_lie_and_work_elsewhere(run_id: str) -> None:
    places = {
        "data_root": "/elsewhere",
        "tracks": "tracks.yaml",
        "device": "cpu",
        "num_workers": "0",
        "eval_batch_size": "4",
        "max_failures": "1",
    }
    config = resumed_config(run_id, places)
    assert config.optimizer.lr == 1e-3
    assert config.data == DataConfig("/elsewhere", "tracks.yaml")
    assert config.compute == ComputeConfig("cpu", 0, 4, max_failures=1)


@pytest.mark.slow
def test_a_resumed_training_keeps_what_decides_its_losses(run_id: str) -> None:
    refused = {"precision": "bf16", "compile": "true", "backend": "fairseq", "lr": "1e-4"}
    began = {"precision": "fp32", "compile": "False", "backend": "torchaudio", "lr": "0.001"}
    for name, value in refused.items():
        with pytest.raises(ValueError, match=f"^{name}: found .* beside resume, expected {began[name]},"):
            resumed_config(run_id, {name: value})
    # Typed once more, it changes nothing.
    assert resumed_config(run_id, {"precision": "fp32", "lr": "1e-3"}) == resumed_config(run_id, {})
