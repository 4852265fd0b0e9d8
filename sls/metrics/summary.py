"""What several values of one thing have in common, such as those of trainings by other seeds."""

import statistics
from collections.abc import Sequence

MEAN, STD, BEST, WORST = "mean", "std", "best", "worst"


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Returns mean, standard deviation (of a sample, n - 1), lowest and highest of two or more errors or losses."""
    return {
        MEAN: statistics.fmean(values),
        STD: statistics.stdev(values),
        BEST: min(values),
        WORST: max(values),
    }
