"""What a door says while it works."""

import pytest

from entrypoints.door import console
from entrypoints.progress import TrainingProgress
from sls.config import TrainingConfig
from sls.engine.training.results import EpochResult


@pytest.mark.parametrize(
    ("monitor", "line"),
    [
        ("train_loss", "v3 epoch 7: train loss 0.250000 (lowest so far), val loss 0.500000, val EER 12.34 %"),
        ("val_loss", "v3 epoch 7: train loss 0.250000, val loss 0.500000 (lowest so far), val EER 12.34 %"),
    ],
)
def test_the_best_epoch_is_said_beside_the_loss_that_it_is_the_best_by(monitor: str, line: str) -> None:
    metrics = {"train/loss": 0.25, "val/loss": 0.5, "val/eer_percent": 12.34}
    training = TrainingConfig(recipe="v3", monitor=monitor, validation="dev")
    with console.capture() as captured:
        progress = TrainingProgress(training)
        for is_best in (True, False):
            progress.on_epoch(EpochResult(7, metrics, is_best, False, None))
    assert captured.get().splitlines() == [line, line.replace(" (lowest so far)", "")]
