"""Signals that end a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
