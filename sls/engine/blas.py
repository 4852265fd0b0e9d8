"""BLAS held to one thread where products are short and the work is shared out in other ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds BLAS to one thread in the whole process for the duration of a `with` block, or of a call.

    Threads of BLAS that wait for each other cost more than the products of an evaluation, above all on a busy
    processor. Of blocks that overlap in several threads the first decides.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
