from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sls.engine.blas import one_blas_thread


def num_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_overlapping_blocks_hold_blas_to_one_thread_and_the_last_gives_it_back():
    assert np.ones(2) @ np.ones(2) == 2  # BLAS is loaded
    both = Barrier(2, timeout=30)

    def overlap(_: int) -> tuple[set[int], set[int]]:
        both.wait()
        with one_blas_thread():
            first = num_threads()
            both.wait()
        both.wait()
        return first, num_threads()

    with threadpool_limits(limits=2, user_api="blas"):
        before = num_threads()
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(overlap, range(2)))
        assert found == [({1}, before)] * 2
        with pytest.raises(KeyError), one_blas_thread():
            raise KeyError
        assert num_threads() == before
