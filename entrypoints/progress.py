"""Progress bars with the time left; nothing is drawn when nobody watches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from entrypoints.door import console, say
from sls.config import Config, TrainingConfig
from sls.data.corpora.corpus import Corpus
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.stopping import MONITORED_METRICS

if TYPE_CHECKING:  # it loads PyTorch, for which doors without neural work are not to wait
    from sls.tracking.training.study import Study

LOG_INTERVAL_S = 60.0
"""Seconds between two lines of progress where no terminal shows a bar."""

RATE_INTERVAL_S = 600.0
"""Seconds over which a rate is taken."""

SHOWN_METRICS = {
    "train/loss": "train loss {:.6f}",
    "val/loss": "val loss {:.6f}",
    "val/eer_percent": "val EER {:.2f} %",
}

Advance = Callable[[int], None]

logger = logging.getLogger(__name__)


@contextmanager
def scoring_progress(text: str, total: int) -> Iterator[Advance]:
    """A bar of `total` trials with rate and time left; without a terminal, a line in the log once a minute.

    The block gets a function that advances it. The first number that it is advanced by is what was there before,
    which the rate leaves out.
    """
    logged_s = time.monotonic()
    with _bar() as progress:
        number = progress.add_task(text, total=total, note="")
        task = progress.tasks[0]

        def advance(amount: int) -> None:
            nonlocal logged_s
            progress.advance(number, amount)
            rate, left_s = task.speed or 0.0, task.time_remaining
            progress.update(number, note=f"{rate:.1f}/s")
            if console.is_terminal or left_s is None or time.monotonic() - logged_s < LOG_INTERVAL_S:
                return
            logged_s = time.monotonic()
            done = int(task.completed)
            logger.info("%s: %d of %d, %.1f/s, %.0f s left", text, done, total, rate, left_s)

        yield advance


@contextmanager
def open_ended_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar whose text and length change; the block gets a function of (text, done, total)."""
    with _bar() as progress:
        task = progress.add_task("", total=None, note="")
        yield lambda text, done, total: progress.update(task, description=text, completed=done, total=total)


class TrainingProgress:
    """A bar for each epoch, with the running loss, and a line for each epoch that has ended."""

    def __init__(self, training: TrainingConfig, title: str = "") -> None:
        """Prepares the bar of a training, called by its recipe if no title is given."""
        self.title, self.monitored = title or training.recipe, MONITORED_METRICS[training.monitor]
        self._progress = _bar()
        self._task = self._progress.add_task(self.title, total=None, note="")

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._progress.stop()

    def on_step(self, step: StepResult) -> None:
        """Advances the bar."""
        self._progress.update(
            self._task,
            description=f"{self.title} epoch {step.epoch}",
            total=step.num_steps,
            completed=step.step % step.num_steps + 1,
            note=f"loss {step.loss:.4f}",
        )

    def on_epoch(self, epoch: EpochResult) -> None:
        """Prints what the epoch gave."""
        values = []
        for name, form in SHOWN_METRICS.items():
            if name in epoch.metrics:
                is_best = epoch.is_best and name == self.monitored
                values.append(form.format(epoch.metrics[name]) + (" (lowest so far)" if is_best else ""))
        say(f"{self.title} epoch {epoch.epoch}: {', '.join(values)}")


def train_seed(study: Study, config: Config, corpus: Corpus, *, is_one: bool) -> str:
    """Trains by one seed of a study, with a bar, and returns the run; an only one is called by its recipe alone."""
    training = config.training
    title = training.recipe if is_one else f"{training.recipe} seed {training.seed}"
    with TrainingProgress(training, title) as progress:
        return study.train(config, corpus, f"train {title}", progress.on_step, progress.on_epoch)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=RATE_INTERVAL_S,
        disable=not console.is_terminal,
        transient=True,
    )
