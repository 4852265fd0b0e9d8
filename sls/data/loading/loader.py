"""Batches that worker processes make ahead of their use, and recordings that cannot be read."""

import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from sls.data.audio.recording import AudioError

PREFETCH_BATCHES = 4
"""Batches that each worker makes ahead."""


@dataclass(frozen=True)
class AudioFailure:
    """A recording that could not be read."""

    index: int
    """Place of the trial in the dataset."""
    name: str
    path: Path
    message: str
    """One line that names the file and says why."""


class Loaded(Protocol):
    """A batch, which names the trials that are not in it."""

    failures: tuple[AudioFailure, ...]


AnyBatch = TypeVar("AnyBatch", bound=Loaded)


def load_batches(
    batches: Dataset[AnyBatch],
    numbers: Sequence[int],
    num_workers: int,
    *,
    pin_memory: bool = False,
    max_failures: int = 0,
) -> Iterator[AnyBatch]:
    """Yields batches by their numbers, each made by a worker process ahead of its use.

    Workers hand unreadable recordings over as data, and the error is raised here: torch would put the
    traceback of the worker into the message of an exception that a worker raised.

    So many processes make them, 0 works in this one, which changes no batch. Of the recordings `max_failures` may be
    unreadable.

    Raises:
        AudioError: more recordings are missing or cannot be read, as one line that names them.
    """
    # A machine of one core is told so in no better words for each pass.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCH_BATCHES if num_workers else None,
        # Otherwise each pass would draw from the global generator, and a resumed epoch make one pass more.
        generator=torch.Generator(),
        worker_init_fn=_prepare_worker,
    )
    failures: list[AudioFailure] = []
    for batch in loader:
        failures += batch.failures
        check_failures(failures, max_failures)
        yield batch


def check_failures(failures: Sequence[AudioFailure], max_failures: int) -> None:
    """Raises AudioError where more recordings cannot be read than may: with all names, or one's message."""
    if len(failures) <= max_failures:
        return
    message = failures[0].message
    if len(failures) > 1:
        names = ", ".join(failure.name for failure in failures)
        message = (
            f"{len(failures)} recordings cannot be read, expected at most {max_failures}: {names}; the first: "
            f"{message}"
        )
    raise AudioError(message)


def _prepare_worker(worker: int) -> None:
    """Leaves signals to the main process, and one core to each worker."""
    del worker
    torch.set_num_threads(1)
    # Ctrl+C reaches every process of the terminal; the main one ends its workers. The handler by which it
    # records that it was ended was inherited, and must not run in a worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _heed_parent_alone()


def _heed_parent_alone() -> None:
    """Ends this process on a SIGTERM of its parent, and on no other.

    `timeout`, Slurm and systemd send it to every process of a job: the main one then finishes its batch, for which it
    needs its workers.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    # Blocked here and in all threads to come, the signal is taken by one thread that sees who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
