import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from safetensors.numpy import load_file

from entrypoints.choose import choose
from sls.config import Config
from sls.models.checkpoints import CheckpointInfo, build_countermeasure, load_checkpoint
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.checkpoints import log_checkpoint, resolve_model

pytestmark = pytest.mark.slow

METRICS = {
    "train/loss": (0.3, 0.2, 0.1),
    "train/accuracy": (0.7, 0.8, 0.9),
    "val/loss": (0.5, 0.4, 0.6),
    "val/eer_percent": (1.0, 2.0, 3.0),
}


@pytest.fixture
def trained(store: Path) -> str:
    """A run of three epochs, of which the last chose itself and the first has no weights any more."""
    with tracked_run("train") as run:
        run.log_config(Config())
        handles = []
        for epoch in range(3):
            model = build_countermeasure("random:tiny", 8_000, epoch)
            info = CheckpointInfo(model.encoder, model.num_samples, epoch=epoch)
            handles.append(log_checkpoint(run, model, info, {}))
            run.log_metrics({name: values[epoch] for name, values in METRICS.items()}, epoch)
        run.delete_checkpoint(handles[0])
        run.set_tags({"chosen_epoch": 2, "chosen_by": "lowest train/loss"})
    return run.run_id


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(choose, arguments)


def test_another_metric_chooses_another_epoch(trained: str) -> None:
    result = invoke("--run_id", trained, "--by", "val/loss")
    assert result.exit_code == 0, result.output
    assert re.search(r"epoch 1\b.*val/loss", result.output)
    client = MlflowClient()
    assert client.get_run(trained).data.tags["chosen_by"] == "lowest val/loss"
    assert resolve_model(client, f"runs:/{trained}").epoch == "1"
    assert re.search(r"epoch 2\b.*train/loss", invoke("--run_id", trained).output)


def test_eers_of_a_chart_of_epochs_choose_and_figures_of_a_chosen_epoch_do_not(trained: str) -> None:
    client = MlflowClient()
    # As evaluations leave them there: their steps are no epochs.
    for step, eer_percent in enumerate((1.0, 9.0)):
        client.log_metric(trained, "DF/eer_percent", eer_percent, step=step)
    for moment, epoch, eer_percent in ((1, 1, 2.0), (2, 2, 8.0), (3, 1, 9.0)):
        client.log_metric(trained, "DF/eer_percent_by_epoch", eer_percent, timestamp=moment, step=epoch)
    refused = invoke("--run_id", trained, "--by", "DF/eer_percent")
    assert refused.exit_code == 2
    assert "DF/eer_percent_by_epoch, train/loss, val/eer_percent, val/loss" in refused.output
    chosen = invoke("--run_id", trained, "--by", "DF/eer_percent_by_epoch")
    assert "Chose epoch 2 (lowest DF/eer_percent_by_epoch)" in chosen.output


def test_weights_that_were_not_kept_cannot_be_chosen(trained: str) -> None:
    result = invoke("--run_id", trained, "--by", "val/eer_percent")
    assert result.exit_code == 2
    assert re.search(r"epoch 0\b.*not kept", result.output)
    assert "epochs [1, 2]" in result.output
    assert MlflowClient().get_run(trained).data.tags["chosen_epoch"] == "2"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        # Its lowest value would be the worst epoch's.
        ("train/accuracy", "by: found train/accuracy, expected "),
        ("loss", ": train/loss, val/eer_percent, val/loss\n"),
    ],
)
def test_what_is_no_loss_or_eer_of_the_run_cannot_choose(trained: str, metric: str, message: str) -> None:
    result = invoke("--run_id", trained, "--by", metric)
    assert result.exit_code == 2
    assert message in result.output


def test_run_that_does_not_exist_is_named(store: Path) -> None:
    result = invoke("--run_id", "0" * 32)
    assert result.exit_code == 2
    assert f"run {'0' * 32}" in result.output


def test_the_mean_of_the_best_epochs_is_a_model_of_its_own(trained: str) -> None:
    client = MlflowClient()
    result = invoke("--run_id", trained, "--by", "train/loss", "--average", "2")
    assert result.exit_code == 0, result.output
    assert "Chose average_1_2 (mean of the 2 epochs of lowest train/loss)" in result.output
    found = resolve_model(client, f"runs:/{trained}")
    assert (found.uri, found.epoch) == (f"runs:/{trained}/average_1_2", "average_1_2")
    parts = [load_file(resolve_model(client, f"runs:/{trained}/epoch_{epoch}").path) for epoch in (1, 2)]
    for name, tensor in load_file(found.path).items():
        stacked = np.stack([part[name] for part in parts]).astype(np.float64)
        np.testing.assert_array_equal(tensor, stacked.mean(axis=0).astype(tensor.dtype))
    waveforms = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores = {
            load_checkpoint(resolve_model(client, f"runs:/{trained}/{name}").path)
            .model.eval()(waveforms)[0, 1]
            .item()
            for name in ("average_1_2", "epoch_1", "epoch_2")
        }
    assert len(scores) == 3
    invoke("--run_id", trained, "--by", "train/loss", "--average", "2")
    models = client.search_logged_models(["1"], "name LIKE 'average%'")
    assert [model.name for model in models] == ["average_1_2"]
    # A single epoch can be chosen again.
    assert "Chose epoch 2 (lowest train/loss)" in invoke("--run_id", trained, "--by", "train/loss").output


@pytest.mark.parametrize(
    ("average", "message"),
    [("3", "epoch 0, whose weights were not kept"), ("4", "expected 1 to 3"), ("0", "expected 1 to 3")],
)
def test_a_mean_needs_the_weights_of_all_its_epochs(trained: str, average: str, message: str) -> None:
    result = invoke("--run_id", trained, "--by", "train/loss", "--average", average)
    assert result.exit_code == 2
    assert message in result.output
    assert MlflowClient().get_run(trained).data.tags["chosen_epoch"] == "2"
