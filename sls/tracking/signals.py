"""Signals that end a run: at once, or between two steps of a training, where there is a state worth keeping."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ECHO_S = 2.0
"""Seconds within which more signals belong to the same request: at Ctrl-C a terminal signals the whole group, and
`mlflow run` sends SIGTERM on top."""

logger = logging.getLogger(__name__)


class Terminated(BaseException):
    """SIGTERM arrived; not an Exception, so that no handler of ordinary errors swallows it."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turns SIGTERM into `Terminated` in the main thread, so that `with` blocks close."""

    def on_sigterm(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        previous = signal.signal(signal.SIGTERM, on_sigterm)
    except ValueError:
        # Not the main thread: signals are not ours to handle.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class StopRequest:
    """Remembers that the process was asked to stop."""

    def __init__(self) -> None:
        self.signal = 0
        """The number of the signal, or 0."""
        self.time_s = 0.0
        """When it came, by the monotonic clock."""

    def error(self) -> BaseException:
        """Returns what the signal would have raised at once."""
        return KeyboardInterrupt() if self.signal == signal.SIGINT else Terminated()


@contextmanager
def stop_on_request() -> Iterator[StopRequest]:
    """Notes the first SIGTERM or Ctrl-C within a `with` block; one that comes `ECHO_S` later acts at once."""
    request = StopRequest()

    def note(signum: int, frame: FrameType | None) -> None:
        if request.signal:
            if time.monotonic() - request.time_s >= ECHO_S:
                restore()
                signal.raise_signal(signum)
            return
        request.signal, request.time_s = signum, time.monotonic()
        logger.warning(
            "Stopping after this batch, to keep a state to resume from; a second signal after %g s stops at once",
            ECHO_S,
        )

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    try:
        previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        # Not the main thread: signals are not ours to handle.
        yield request
        return
    try:
        yield request
    finally:
        restore()
