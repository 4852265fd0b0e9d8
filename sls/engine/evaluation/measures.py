"""A number with its unit and its intervals, and how a person reads them: rates in percent, the rest as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sls.metrics.intervals import Estimate, Interval

FRACTION, COST, BITS, SHARE = "fraction", "cost", "bits", "share"
TITLES = {
    "eer": "EER",
    "min_tdcf": "min t-DCF",
    "min_tdcf_legacy": "min t-DCF (legacy)",
    "min_dcf": "min DCF",
    "act_dcf": "actual DCF",
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
    "auc": "AUC",
    "accuracy": "accuracy at the EER threshold",
    "balanced_accuracy": "balanced accuracy at the EER threshold",
    "f1": "F1 of bona fide at the EER threshold",
    "miss": "miss",
    "false_alarm": "false alarm",
    "half_total_error": "half total error",
    "min_half_total_error": "min half total error",
    "eer_diff": "difference in EER",
}
LEAST_SHOWN_P = 0.0001


@dataclass(frozen=True)
class Measure:
    """One number, its unit, and the intervals that were computed for it."""

    name: str
    value: float
    unit: str
    """`fraction` (read as a percentage), `share` (from 0 to 1), `cost` (normalised, no unit) or `bits`."""
    intervals: tuple[Interval, ...] = ()

    @classmethod
    def of(cls, name: str, estimates: Sequence[Estimate], unit: str) -> Self:
        """Returns a number with its intervals, of estimates that differ by what these rest on."""
        return cls(name, estimates[0].value, unit, tuple(found.interval() for found in estimates))

    @property
    def title(self) -> str:
        """The name that a person reads."""
        return TITLES[self.name]

    @property
    def metric(self) -> str:
        """What a tracker calls it: a rate, which is logged in percent, says so."""
        return f"{self.name}_percent" if self.unit == FRACTION else self.name

    def interval(self, *, is_clustered: bool = False) -> Interval | None:
        """Returns the interval over trials, or that over clusters."""
        return next((found for found in self.intervals if found.is_clustered == is_clustered), None)


class Measured:
    """What has `measures`, found by their names."""

    measures: tuple[Measure, ...]

    def measure(self, name: str) -> Measure | None:
        """Returns a measure by its name, or None where it was not computed."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def value(self, name: str) -> float:
        """Returns the value of a measure that was computed."""
        return next(measure.value for measure in self.measures if measure.name == name)

    def figures(self) -> dict[str, float]:
        """Returns the measures for a tracker; rates as percentages, whose names end in `_percent`.

        The ends of an interval follow their number as `eer_percent_low`, `eer_percent_high` (over trials) and
        `eer_percent_clustered_low`, `eer_percent_clustered_high` (over speakers and attacks).
        """
        found: dict[str, float] = {}
        for measure in self.measures:
            factor, name = scale_of(measure.unit), measure.metric
            found[name] = factor * measure.value
            for interval in measure.intervals:
                kind = "_clustered" if interval.is_clustered else ""
                found[f"{name}{kind}_low"] = factor * interval.low
                found[f"{name}{kind}_high"] = factor * interval.high
        return found


def scale_of(unit: str) -> int:
    """Returns by what a number is multiplied for a person: rates are read in percent."""
    return 100 if unit == FRACTION else 1


def format_number(value: float, unit: str) -> str:
    """Returns a number as a person reads it, without its name: with 2 digits of a rate, 4 of the rest."""
    digits = 2 if unit == FRACTION else 4
    return f"{round(scale_of(unit) * value, digits) + 0.0:.{digits}f}"  # no -0.00


def format_measure(value: float, unit: str = FRACTION) -> str:
    """Returns a number with its unit, such as `3.41 %`."""
    return format_number(value, unit) + {FRACTION: " %", BITS: " bits"}.get(unit, "")


def format_interval(interval: Interval, unit: str) -> str:
    """Returns an interval, such as `[3.41, 3.62]`."""
    return f"[{format_number(interval.low, unit)}, {format_number(interval.high, unit)}]"


def format_p_value(value: float) -> str:
    """Returns a p-value as a person reads it, such as `0.031` or `< 0.0001`."""
    if value < LEAST_SHOWN_P:
        return f"< {LEAST_SHOWN_P:g}"
    return f"{value:.2g}" if value >= 0.1 else f"{value:.3g}"
