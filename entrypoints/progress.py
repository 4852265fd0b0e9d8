"""Progress bars with the time left; nothing is drawn when nobody watches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from entrypoints.door import console
from sls.config import TrainingConfig
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.stopping import MONITORED_METRICS

LOG_INTERVAL_S = 60.0
"""Seconds between two lines of progress where no terminal shows a bar."""

SHOWN_METRICS = {
    "train/loss": "train loss {:.6f}",
    "val/loss": "val loss {:.6f}",
    "val/eer_percent": "val EER {:.2f} %",
}

Advance = Callable[[int], None]

logger = logging.getLogger(__name__)


@contextmanager
def progress_bar(text: str, total: int) -> Iterator[Advance]:
    """A bar of `total` units; the block gets a function that advances it."""
    with _bar() as progress:
        task = progress.add_task(text, total=total, note="")
        yield lambda amount: progress.advance(task, amount)


@contextmanager
def scoring_progress(text: str, total: int) -> Iterator[Advance]:
    """A bar with rate and time left; without a terminal, a line in the log once a minute."""
    pace = _Pace(text, total)
    with _bar() as progress:
        task = progress.add_task(text, total=total, note="")

        def advance(amount: int) -> None:
            pace.advance(amount)
            progress.update(task, advance=amount, note=f"{pace.rate:.1f}/s")
            if not console.is_terminal:
                pace.log()

        yield advance


class _Pace:
    """Counts units, and says how fast they come; the first count is what was there before."""

    def __init__(self, text: str, total: int) -> None:
        self.text, self.total = text, total
        self.done = self.kept = 0
        self.is_started = False
        self.start_s = self.logged_s = time.monotonic()

    @property
    def rate(self) -> float:
        """Units in a second."""
        return (self.done - self.kept) / max(time.monotonic() - self.start_s, 1e-9)

    def advance(self, amount: int) -> None:
        """Adds units."""
        self.done += amount
        if not self.is_started:
            self.is_started, self.kept, self.start_s = True, amount, time.monotonic()

    def log(self) -> None:
        """Says where the work stands, once a minute."""
        if time.monotonic() - self.logged_s < LOG_INTERVAL_S or not self.rate:
            return
        self.logged_s = time.monotonic()
        left_s = (self.total - self.done) / self.rate
        logger.info("%s: %d of %d, %.1f/s, %.0f s left", self.text, self.done, self.total, self.rate, left_s)


@contextmanager
def open_ended_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar whose text and length change; the block gets a function of (text, done, total)."""
    with _bar() as progress:
        task = progress.add_task("", total=None, note="")
        yield lambda text, done, total: progress.update(task, description=text, completed=done, total=total)


class TrainingProgress:
    """A bar for each epoch, with the running loss, and a line for each epoch that has ended."""

    def __init__(self, training: TrainingConfig) -> None:
        self.recipe, self.monitored = training.recipe, MONITORED_METRICS[training.monitor]
        self._progress = _bar()
        self._task = self._progress.add_task(self.recipe, total=None, note="")

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._progress.stop()

    def on_step(self, step: StepResult) -> None:
        """Advances the bar."""
        self._progress.update(
            self._task,
            description=f"{self.recipe} epoch {step.epoch}",
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
        self._progress.console.print(
            f"{self.recipe} epoch {epoch.epoch}: {', '.join(values)}", soft_wrap=True
        )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
