"""What a door says while it works."""

import logging
import re
import time

import pytest

from entrypoints import progress
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
        shown = TrainingProgress(training)
        for is_best in (True, False):
            shown.on_epoch(EpochResult(7, metrics, is_best, False, None))
    assert captured.get().splitlines() == [line, line.replace(" (lowest so far)", "")]


def test_without_a_terminal_a_line_says_how_fast_scoring_is_less_what_was_there(monkeypatch, caplog) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.0)
    with (
        caplog.at_level(logging.INFO),
        console.capture(),
        progress.scoring_progress("score LA", 1_000_000) as advance,
    ):
        advance(900_000)
        assert not caplog.messages
        time.sleep(0.05)
        advance(10)
    (line,) = caplog.messages
    match = re.fullmatch(r"score LA: 900010 of 1000000, (\d+\.\d)/s, \d+ s left", line)
    assert match is not None
    assert 0 < float(match[1]) <= 200
