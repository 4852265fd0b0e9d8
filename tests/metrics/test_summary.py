import numpy as np

from sls.metrics.summary import summarise


def test_summary_is_of_a_sample_and_the_lowest_is_the_best():
    values = [3.0, 1.0, 2.5]
    assert summarise(values) == {
        "mean": np.mean(values),
        "std": np.std(values, ddof=1),
        "best": 1.0,
        "worst": 3.0,
    }
