"""What an evaluation yields: plain, frozen, and ready for a figure, a report or a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sls.engine.evaluation.measures import COST, FRACTION, Measure, Measured, format_measure
from sls.metrics.classification import Confusion
from sls.metrics.eer import DetCurve
from sls.metrics.intervals import Interval

POOLED = "pooled"
"""The value of a field over which a cell does not select."""
TIMES = "\N{MULTIPLICATION SIGN}"
MAX_BINS = 80
CURVE_GRID = 0.02
"""Distance of two points of a thinned DET curve, in natural-log odds: finer than a line is wide."""


@dataclass(frozen=True)
class CurvePoints:
    """A DET curve, thinned to what a figure can show; arrays of shape `(points,)`, fractions."""

    frr: NDArray[np.float64]
    far: NDArray[np.float64]

    @classmethod
    def of(cls, curve: DetCurve) -> CurvePoints:
        """Returns the points of a DET curve that a figure can tell apart."""
        edge = 1e-9
        grid = [
            np.round(np.log((rate + edge) / (1 - rate + edge)) / CURVE_GRID)
            for rate in (curve.frr, curve.far)
        ]
        is_new = np.ones(curve.frr.size, dtype=bool)
        is_new[1:-1] = (np.diff(grid[0])[:-1] != 0) | (np.diff(grid[1])[:-1] != 0)
        return cls(curve.frr[is_new], curve.far[is_new])


@dataclass(frozen=True)
class Histogram:
    """Scores of both classes in common bins."""

    edges: NDArray[np.float64]
    """Shape `(bins + 1,)`."""
    bonafide: NDArray[np.int64]
    spoof: NDArray[np.int64]
    """Trials in each bin, shape `(bins,)`."""

    @classmethod
    def of(cls, bonafide: NDArray[np.float64], spoof: NDArray[np.float64]) -> Histogram:
        """Returns how many scores of each class, both ascending, fall into each of common bins."""
        low, high = min(bonafide[0], spoof[0]), max(bonafide[-1], spoof[-1])
        num_bins = min(MAX_BINS, max(10, round(np.sqrt(bonafide.size + spoof.size))))
        edges = np.linspace(low, high, num_bins + 1)
        counts = (np.histogram(scores, edges)[0].astype(np.int64) for scores in (bonafide, spoof))
        return cls(edges, *counts)


@dataclass(frozen=True)
class Cell:
    """The trials that share a value of one field, or of two."""

    values: tuple[str, ...]
    """One for each field of the breakdown; `pooled` where the cell holds all values."""
    num_bonafide: int
    num_spoof: int
    eer: float | None
    """Fraction; None where `note` says why there is none."""
    min_tdcf: float | None = None
    """Of the form that the track earns, with the ASV's error rates in the same condition."""
    intervals: tuple[Interval, ...] = ()
    """Of the EER."""
    note: str = ""


@dataclass(frozen=True)
class SubsetEer:
    """The EER of one subset of the key."""

    subset: str
    eer: float
    """Fraction."""
    num_bonafide: int
    num_spoof: int


@dataclass(frozen=True)
class Breakdown:
    """Results by the values of one field, or of two that cross."""

    fields: tuple[str, ...]
    is_spoof_only: tuple[bool, ...]
    """For each field: it selects spoofed trials, against all bona fide ones; otherwise it selects both."""
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        """Such as `attack × codec`."""
        return f" {TIMES} ".join(self.fields)

    @property
    def name(self) -> str:
        """Such as `attack_codec`, for the name of a file."""
        return "_".join(self.fields)

    @property
    def crossed_measures(self) -> tuple[str, ...]:
        """Of a breakdown by two fields: `eer` and `min_tdcf`, as far as some cell has them."""
        measures = ("eer", "min_tdcf") if len(self.fields) > 1 else ()
        return tuple(name for name in measures if any(getattr(cell, name) is not None for cell in self.cells))

    def axis(self, index: int) -> tuple[str, ...]:
        """Returns the values of a field in their order, `pooled` last."""
        return tuple(dict.fromkeys(cell.values[index] for cell in self.cells))


@dataclass(frozen=True)
class Evaluation(Measured):
    """What is known of one system on one track."""

    system: str
    """Name of the system or score file."""
    track: str
    subset: str
    corpus: str
    """Which data this is, where the track's name does not say it; empty for the published corpus."""
    num_bonafide: int
    num_spoof: int
    eer_threshold: float
    """A score at or below it is rejected."""
    measures: tuple[Measure, ...]
    confusion: Confusion
    """At the EER threshold."""
    curve: CurvePoints
    histogram: Histogram
    other_subsets: tuple[SubsetEer, ...] = ()
    """What the same scores give on the other subsets of the key (`all` among them) that they cover."""
    breakdowns: tuple[Breakdown, ...] = ()
    warnings: tuple[str, ...] = ()
    is_calibrated: bool = False
    """Whether scores are log-likelihood ratios by a calibration that was fitted elsewhere."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Files with their SHA-256, coverage, and what intervals are."""

    @property
    def eer(self) -> float:
        """Equal error rate, fraction."""
        return self.measures[0].value

    @property
    def scope(self) -> str:
        """The EER of the evaluated subset beside those of the others, in a line; empty where there are none."""
        own = SubsetEer(self.subset, self.eer, self.num_bonafide, self.num_spoof)
        parts = [
            f"{item.subset} {format_measure(item.eer)} ({item.num_bonafide + item.num_spoof:,} trials)"
            for item in (own, *self.other_subsets)
        ]
        return f"EER by subset of the key: {', '.join(parts)}" if self.other_subsets else ""

    def metrics(self) -> dict[str, float]:
        """Returns the numbers for a tracker: `figures`, the threshold and how many trials they are of."""
        found = self.figures()
        found["eer_threshold"] = self.eer_threshold
        found["num_bonafide"], found["num_spoof"] = float(self.num_bonafide), float(self.num_spoof)
        if "coverage" in self.provenance:
            found["coverage_percent"] = 100 * self.provenance["coverage"]["share"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON can hold it; rates are fractions, and `units` says so."""
        content = asdict(self)
        for name in ("curve", "histogram"):
            content[name] = {key: values.tolist() for key, values in content[name].items()}
        content["units"] = {
            "eer": FRACTION,
            "frr": FRACTION,
            "far": FRACTION,
            "min_tdcf": COST,
            "intervals": "as the number that they belong to",
            "eer_threshold": "score",
            "edges": "score",
            "confusion, num_bonafide, num_spoof, bonafide, spoof": "trials",
        }
        return content
