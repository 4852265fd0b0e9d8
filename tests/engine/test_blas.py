import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sls.engine.blas import one_blas_thread


def num_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_has_one_thread_within_a_call_and_its_own_number_after_it():
    assert np.ones(2) @ np.ones(2) == 2  # BLAS is loaded

    @one_blas_thread()
    def count() -> set[int]:
        with one_blas_thread():
            pass
        return num_threads()

    @one_blas_thread()
    def fail() -> None:
        raise KeyError

    with threadpool_limits(limits=2, user_api="blas"):
        before = num_threads()
        assert count() == {1}
        with pytest.raises(KeyError):
            fail()
        assert num_threads() == before
