"""A door in a process that signals itself at a known place of its work.

A signal from outside may come when the work is done, where the machine is busy with something else.

    python -m tests.signalled_door MODULE:CLASS.METHOD COUNT SIGNAL DOOR ...
"""

import importlib
import os
import runpy
import subprocess
import sys
from typing import Any

import psutil

from sls.tracking import active_run


def signalled(place: str, count: int, number: int) -> tuple[str, ...]:
    """Returns what stands before a door in a command, for a signal after so many calls of `MODULE:CLASS.METHOD`.

    Of a count below 0 the signal comes when the call begins.
    """
    return "tests.signalled_door", place, str(count), str(int(number))


def signal_at(place: str, count: int, number: int) -> None:
    """Signals this process and its children, as what ends a job does, when a method has been called so often."""
    module, _, name = place.partition(":")
    owner, _, method = name.partition(".")
    held, num_calls = getattr(importlib.import_module(module), owner), 0
    call = getattr(held, method)

    def call_and_signal(*arguments: Any, **named: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == -count:
            signal_job(number)
        result = call(*arguments, **named)
        if num_calls == count:
            signal_job(number)
        return result

    setattr(held, method, call_and_signal)


def signal_job(number: int) -> None:
    job = [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
    # By a process of its own: a worker of the loader ends by a signal of its parent.
    subprocess.run(["kill", f"-{number}", *map(str, job)], check=False)


if __name__ == "__main__":
    # A busy machine may not send all of a training within the seconds that a signal leaves.
    active_run.SIGNAL_LIMIT_S = 600.0
    where, times, what, door, *rest = sys.argv[1:]
    signal_at(where, int(times), int(what))
    sys.argv[1:] = rest
    runpy.run_module(door, run_name="__main__", alter_sys=True)
