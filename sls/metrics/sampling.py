"""What would be other, were a corpus collected once more: its trials, or the speakers and attacks they come from.

Rates are means over trials, so the variance of a rate is the sum of what each cluster moves it by, squared. What a
cluster moves is what leaving it out would change (the jackknife: Efron and Stein, "The jackknife estimate of
variance", Annals of Statistics 1981, without its factor (n - 1) / n for n clusters). Speakers and attacks cross each
other: the variance over both is the sum of the two, as by Cameron, Gelbach and Miller, "Robust inference with
multiway clustering", JBES 2011, without the term that takes out again what single trials add to both. Both omissions
err on the wide side.

Trials of one speaker or attack may be alike, but they do not make up for each other's errors. Where clusters vary
less than the same trials taken as independent, that is taken for chance, which is likely where errors are few: two
systems that err in other trials of one speaker differ in no cluster. So a sampling of clusters knows its trials as
well, and no interval over clusters is narrower than that over trials, nor a p-value smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BONAFIDE, SPOOF = 0, 1
MIN_CLUSTERS = 6
"""With fewer no verdict is given: of five clusters a two-sided test by signs cannot reach 5 % (2 / 2**5 = 6 %)."""

LEAST_FREEDOM = 1.0
"""Degrees of freedom that a t quantile is taken for at least, where one cluster outweighs all others."""

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Axis:
    """One way in which trials belong together."""

    codes: tuple[Codes | None, Codes | None]
    """Cluster of each bona fide and of each spoofed trial, shape `(trials of the class,)`; None: not on this axis."""
    name: str = ""
    """Such as `attacks`; empty where every trial is a cluster of its own."""

    @cached_property
    def size(self) -> int:
        """Clusters, with those that have no trial here."""
        return max((int(codes.max()) + 1 for codes in self.codes if codes is not None), default=0)

    @cached_property
    def counts(self) -> tuple[Floats | None, Floats | None]:
        """Trials of each cluster, by class, shape `(size,)`."""
        bonafide, spoof = (
            None if codes is None else np.bincount(codes, minlength=self.size).astype(np.float64)
            for codes in self.codes
        )
        return bonafide, spoof

    def without_single(self) -> Axis:
        """Returns the axis without a class that has one cluster only, which nothing could take the place of."""
        bonafide, spoof = (
            None if counts is None or np.count_nonzero(counts) < 2 else codes
            for codes, counts in zip(self.codes, self.counts, strict=True)
        )
        return Axis((bonafide, spoof), self.name)

    def deviations(self, side: int, values: Floats) -> Floats:
        """Returns what each cluster moves the mean of a class by, shape `(size,)`."""
        codes, counts = self.codes[side], self.counts[side]
        if codes is None or counts is None:
            return np.zeros(self.size)
        centred = (values - values.mean()) / values.size
        moved = np.bincount(codes, weights=centred, minlength=self.size).astype(np.float64)
        return leave_out(moved, counts)


def leave_out(deviations: Floats, counts: Floats) -> Floats:
    """Returns what leaving each cluster out would move a mean by, `(clusters,)`; 0 where one holds all trials.

    `deviations` is what the trials of each cluster add to the mean, less their share of it.
    """
    left = 1 - counts / counts.sum()
    return np.divide(deviations, left, out=np.zeros_like(deviations), where=left > 0)


@dataclass(frozen=True, eq=False)
class Sampling:
    """Which trials belong together, in each class."""

    axes: tuple[Axis, ...]
    over: str = "trials"
    """What would be drawn, with its numbers: `trials`, or such as `48 speakers and 13 attacks`."""
    clusters: Mapping[str, int] = field(default_factory=dict)
    """Number of clusters by name, such as `{"speakers": 48, "attacks": 13}`; empty over trials."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """As how many clusters of one size each of `clusters` weighs."""
    trials: Sampling | None = None
    """The same trials taken as independent; None where these are."""

    def deviations(self, side: int, values: Floats) -> Floats:
        """Returns how each cluster of each axis moves the mean of a class's values; its squares sum to the variance.

        Values are in the order of the codes. The deviations, `(clusters of all axes,)`, of both classes add up.
        """
        return np.concatenate([axis.deviations(side, values) for axis in self.axes])

    def place(self, name: str, deviations: Floats) -> Floats:
        """Returns deviations of the clusters of one axis, at least `(size,)`, among zeros for those of all others."""
        return np.concatenate(
            [deviations[: axis.size] if axis.name == name else np.zeros(axis.size) for axis in self.axes]
        )

    @cached_property
    def freedom(self) -> tuple[float, float]:
        """Degrees of freedom for each class: what the clusters of its smallest axis weigh, less one; at least 1."""
        bonafide, spoof = (
            max(min(count_equal(counts) for counts in self._counts(side)) - 1, LEAST_FREEDOM)
            for side in (BONAFIDE, SPOOF)
        )
        return bonafide, spoof

    @cached_property
    def fewest(self) -> tuple[int, int]:
        """Clusters of the smallest axis, for each class; trials where nothing joins them."""
        bonafide, spoof = (
            min(int(np.count_nonzero(counts)) for counts in self._counts(side)) for side in (BONAFIDE, SPOOF)
        )
        return bonafide, spoof

    @property
    def is_clustered(self) -> bool:
        """Whether some trials are joined; an only speaker or attack joins none that could be told from others."""
        return any(axis.name and axis.size for axis in self.axes)

    @property
    def shortage(self) -> str:
        """Why no verdict can rest on it, such as `not enough speakers (2) to tell`; empty where one can."""
        for name, count in self.clusters.items():
            if count < MIN_CLUSTERS:
                return f"not enough {name} ({count}) to tell"
            if round(self.weights[name]) < MIN_CLUSTERS:
                unequal = f"so unequal in size that they tell as much as {self.weights[name]:.1f} equal ones"
                return f"not enough {name} ({count}, {unequal}) to tell"
        for name, count in zip(("bona fide", "spoofed"), self.fewest, strict=True):
            if count < MIN_CLUSTERS:
                return f"not enough {name} trials ({count}) to tell"
        return ""

    def _counts(self, side: int) -> list[Floats]:
        return [counts for axis in self.axes if (counts := axis.counts[side]) is not None]


def count_equal(counts: Floats) -> float:
    """Returns as how many clusters of one size clusters of these sizes weigh in a variance.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin
        1946, for deviations that grow with the size of their cluster.
    """
    squares = (counts / counts.max()) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())
