"""Who writes a run: the last process that opened or resumed it through a journal; those before are fenced off.

On one machine the lock of a journal keeps two processes apart. Nothing does between machines, so whoever opens a run
puts a token on it, the tag `writer`, and before each entry compares the run's with its own. MLflow cannot compare and
write in one step: an entry that is on its way while the token changes still arrives.
"""

from __future__ import annotations

import time

from mlflow.entities import Run

from sls.files import this_process
from sls.tracking.tags import WRITER_TAG


class RunTakenOver(Exception):
    """Another process writes the run now, and nothing more of this one may reach it."""


def new_writer(journal: str) -> str:
    """Returns the token of this process for the run of a journal; the journal's id makes it unique."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"{this_process()} since {now} (journal {journal})"


def read_writer(run: Run) -> str:
    """Returns the token on a run; empty where it was never opened through a journal, or before there were tokens."""
    return str(run.data.tags.get(WRITER_TAG, ""))


def expect_writer(run: Run, *expected: str) -> None:
    """Compares the token on a run, where there is one, with those that may be there.

    Raises:
        RunTakenOver: it is another one.
    """
    writer = read_writer(run)
    if writer and writer not in expected:
        raise RunTakenOver(f"run {run.info.run_id} is written by {writer.partition(' (journal')[0]}")
