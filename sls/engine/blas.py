"""BLAS held to one thread where products are short and the work is shared out in other ways."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_limits: list[threadpool_limits] = []
_num_holders = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds BLAS to one thread in the whole process; it has its own number again when the last block ends.

    Threads of BLAS that wait for each other cost more than the products of an evaluation, above all on a busy
    processor.
    """
    global _num_holders
    with _lock:
        if not _num_holders:
            _limits.append(threadpool_limits(limits=1, user_api="blas"))
        _num_holders += 1
    try:
        yield
    finally:
        with _lock:
            _num_holders -= 1
            if not _num_holders:
                _limits.pop().restore_original_limits()
