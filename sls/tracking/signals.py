"""Signals that end a run: at once, or between two steps of a training, where there is a state worth keeping."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

ECHO_S = 2.0
"""Seconds within which more signals belong to the same request: at Ctrl-C a terminal signals the whole group, and
`mlflow run` sends SIGTERM on top."""

logger = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; like Ctrl-C no Exception, so that no handler of ordinary errors swallows it."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turns SIGTERM into `Terminated` in the main thread, so that `with` blocks close."""

    def on_sigterm(signum: int, frame: FrameType | None) -> None:
        raise _error_of(signum)

    with _handling(on_sigterm, signal.SIGTERM):
        yield


@dataclass
class StopRequest:
    """Remembers that the process was asked to stop."""

    signal: int = 0
    """The number of the signal, or 0."""
    time_s: float = 0.0
    """When it came, by the monotonic clock."""

    def error(self) -> KeyboardInterrupt:
        """Returns what the signal would have raised at once."""
        return _error_of(self.signal)


@contextmanager
def stop_on_request() -> Iterator[StopRequest]:
    """Notes the first SIGTERM or Ctrl-C within a `with` block; one that comes `ECHO_S` later acts at once."""
    request = StopRequest()

    def note(signum: int, frame: FrameType | None) -> None:
        if request.signal:
            if time.monotonic() - request.time_s >= ECHO_S:
                raise _error_of(signum)
            return
        request.signal, request.time_s = signum, time.monotonic()
        logger.warning(
            "Stopping after this batch, to keep a state to resume from; a second signal after %g s stops at once",
            ECHO_S,
        )

    with _handling(note, signal.SIGTERM, signal.SIGINT):
        yield request


def _error_of(signum: int) -> KeyboardInterrupt:
    return Terminated() if signum == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Handles signals for a `with` block; outside the main thread they are not ours to handle."""
    is_main = threading.current_thread() is threading.main_thread()
    former = {number: signal.signal(number, handler) for number in numbers if is_main}
    try:
        yield
    finally:
        for number, handler_before in former.items():
            signal.signal(number, handler_before)
