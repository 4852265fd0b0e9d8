"""One model for many threads: what they ask for at the same time goes through it together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class SharedBatches(Generic[Item, Result]):
    """Calls a function of batches for threads that each have a few items.

    While one batch is computed, what other threads bring gathers into the next one; nobody waits for a batch to
    fill. One batch is computed at a time, so that the threads do not compete for the same cores.

    Args:
        compute: Returns one result for each item of a batch, in order.
        max_batch_size: The most items of a batch; bounds the memory.
    """

    def __init__(self, compute: Callable[[list[Item]], Sequence[Result]], max_batch_size: int) -> None:
        self._compute, self._max_batch_size = compute, max_batch_size
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        self._turn = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Returns the results of some items, in order; raises what computing their batch has raised."""
        jobs: list[tuple[Item, Future[Result]]] = [(item, Future()) for item in items]
        self._waiting.extend(jobs)
        while not all(future.done() for _, future in jobs):
            with self._turn:
                self._compute_next()
        return [future.result() for _, future in jobs]

    def _compute_next(self) -> None:
        count = min(len(self._waiting), self._max_batch_size)
        batch = [self._waiting.popleft() for _ in range(count)]
        if not batch:
            return
        try:
            results = self._compute([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
        except Exception as error:  # goes to the threads that brought these items
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
