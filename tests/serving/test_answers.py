"""Batches of `answers`: what several threads ask of one model at the same time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sls.serving.answers import SharedBatches


def test_items_that_come_while_a_batch_runs_share_the_next_ones() -> None:
    # Nothing tells from outside when all threads wait, so that a busy machine may need another go.
    assert any(sizes_of_shared_batches(0.01 * patience) == [1, 4, 2] for patience in range(1, 50))


def sizes_of_shared_batches(pause_s: float) -> list[int]:
    """The sizes of the batches, where six threads bring an item each while one batch runs."""
    sizes: list[int] = []
    started, release = threading.Event(), threading.Event()

    def square(items: list[int]) -> list[int]:
        sizes.append(len(items))
        started.set()
        assert release.wait(60)
        return [item * item for item in items]

    batches = SharedBatches(square, max_batch_size=4)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batches, [0])
        assert started.wait(60)
        others = [pool.submit(batches, [item]) for item in range(1, 7)]
        time.sleep(pause_s)
        release.set()
        assert first.result(60) == [0]
        assert [other.result(60) for other in others] == [[item * item] for item in range(1, 7)]
    return sizes


def test_many_items_of_one_thread_come_back_in_order() -> None:
    batches = SharedBatches(lambda items: [str(item) for item in items], max_batch_size=3)
    assert batches(range(8)) == [str(item) for item in range(8)]
    assert batches([]) == []


def test_error_reaches_the_threads_of_its_batch_alone() -> None:
    def halve(items: list[int]) -> list[float]:
        if 0 in items:
            raise ZeroDivisionError("zero")
        return [1 / item for item in items]

    batches = SharedBatches(halve, max_batch_size=2)
    with pytest.raises(ZeroDivisionError, match="zero"):
        batches([0])
    assert batches([2]) == [0.5]
    short = SharedBatches(lambda items: items[1:], max_batch_size=2)
    with pytest.raises(ValueError, match="zip"):
        short([1, 2])
