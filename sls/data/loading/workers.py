"""The processes of a loader."""

from __future__ import annotations

import os
import signal
import threading

import torch

PREFETCH_BATCHES = 4
"""Batches that each worker makes ahead."""


def prepare_worker(worker: int) -> None:
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
