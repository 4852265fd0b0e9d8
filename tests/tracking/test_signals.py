"""One wish to stop, however many signals it comes in; and a second one."""

import signal
from collections.abc import Iterator

import pytest

from sls.tracking import signals
from sls.tracking.signals import ECHO_S, Terminated, sigterm_raises, stop_on_request


@pytest.fixture
def clock(monkeypatch) -> Iterator[list[float]]:
    """The time, which a test moves."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    # A shell starts what it runs in the background with Ctrl-C ignored, and Python leaves that so.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    with sigterm_raises():
        yield now
    signal.signal(signal.SIGINT, interrupt)


def test_ctrl_c_that_comes_again_as_sigterm_is_one_request(clock) -> None:
    with stop_on_request() as request:
        signal.raise_signal(signal.SIGINT)
        clock[0] += 0.9 * ECHO_S
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert request.signal == signal.SIGINT
    assert isinstance(request.error(), KeyboardInterrupt)


@pytest.mark.parametrize(
    ("second", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_second_request_stops_at_once(clock, second, error) -> None:
    def ask_twice() -> None:
        with stop_on_request() as request:
            signal.raise_signal(signal.SIGTERM)
            assert request.signal == signal.SIGTERM
            clock[0] += ECHO_S
            signal.raise_signal(second)

    with pytest.raises(error):
        ask_twice()


def test_afterwards_signals_act_as_before(clock) -> None:
    with stop_on_request():
        pass
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
