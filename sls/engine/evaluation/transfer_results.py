"""What decisions cost at operating points that were set elsewhere, with sentences of the worst and the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sls.engine.evaluation.measures import (
    COST,
    FRACTION,
    TITLES,
    Measure,
    Measured,
    format_interval,
    format_measure,
    scale_of,
)
from sls.metrics.dcf import DetectionCosts
from sls.metrics.operating_points import COST_POINT, EER_POINT, LOGISTIC_POINT, PAV_POINT

METHODS = {
    EER_POINT: "the EER threshold",
    COST_POINT: "the minimum-cost threshold",
    LOGISTIC_POINT: "the logistic calibration",
    PAV_POINT: "the PAV calibration",
}
CALIBRATIONS = (LOGISTIC_POINT, PAV_POINT)
SHOWN_METHODS = (EER_POINT, LOGISTIC_POINT)
"""Those that a sentence, a figure and the console tell of; the others stand in the report."""
HALF_TOTAL = "half_total_error"
LEAST = {HALF_TOTAL: "min_half_total_error", "act_dcf": "min_dcf", "cllr": "min_cllr"}
"""What each is held against: the target's own, at the threshold, or by the monotone map, that suits it best."""


@dataclass(frozen=True)
class Ends(Measured):
    """A source and a target of operating points: a system's scores of a track."""

    name: str
    num_bonafide: int
    num_spoof: int
    measures: tuple[Measure, ...]
    """EER, min half total error, min DCF and min Cllr: its own, and no threshold from elsewhere betters a minimum."""


@dataclass(frozen=True)
class Transfer(Measured):
    """Decisions on a target at an operating point of a source."""

    source: str
    target: str
    method: str
    measures: tuple[Measure, ...]
    """Miss, false alarm, half total error, actual DCF and, by a calibration, Cllr, with intervals."""

    @property
    def is_own(self) -> bool:
        """Whether it was set on the very trials that it decides: what a transfer is compared with."""
        return self.source == self.target


@dataclass(frozen=True)
class TransferMatrix:
    """Every source with every target: the tracks of one system, or the systems of one track."""

    title: str
    ends: tuple[Ends, ...]
    transfers: tuple[Transfer, ...]

    def find(self, source: str, target: str, method: str) -> Transfer | None:
        """Returns one of the transfers, or None where the source has no operating point of that method."""
        wanted = (source, target, method)
        found = (item for item in self.transfers if (item.source, item.target, item.method) == wanted)
        return next(found, None)

    def own(self, target: str) -> Ends:
        """Returns what a target reaches by itself."""
        return next(ends for ends in self.ends if ends.name == target)

    def excess(self, transfer: Transfer) -> float:
        """Returns what a transfer costs beyond the target's own least: of the errors, or of a calibration's cost."""
        measure = measure_of(transfer.method)
        return transfer.value(measure) - self.own(transfer.target).value(LEAST[measure])

    def worst(self, method: str, source: str = "") -> Transfer | None:
        """Returns the transfer of a method that costs most, of all sources or of one; None where there is none."""
        moved = (item for item in self.transfers if item.method == method and not item.is_own)
        return max((item for item in moved if source in ("", item.source)), key=self.excess, default=None)

    def metrics(
        self, methods: Sequence[str] = tuple(METHODS), source: str = ""
    ) -> Iterator[tuple[str, float]]:
        """Yields names and numbers for a tracker, such as `DF/miss_percent_by_eer_threshold_of_dev`."""
        for item in self.transfers:
            if item.is_own or item.method not in methods or source not in ("", item.source):
                continue
            for measure in item.measures:
                name = f"{item.target}/{measure.metric}_by_{item.method}_of_{item.source}"
                yield name, scale_of(measure.unit) * measure.value


def measure_of(method: str) -> str:
    """Returns by which measure the transfers of a method are told apart."""
    return HALF_TOTAL if method == EER_POINT else "act_dcf"


@dataclass(frozen=True)
class TransferReport:
    """What a threshold costs where it was not set: a matrix of tracks for each system, or one of systems."""

    track: str
    """Or tracks, separated by commas."""
    subset: str
    corpus: str
    costs: DetectionCosts
    matrices: tuple[TransferMatrix, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The worst transfers, and whose threshold travels best."""
        found = []
        for method in SHOWN_METHODS:
            found += [say_worst(matrix, item) for matrix in self.matrices if (item := matrix.worst(method))]
            found += filter(None, [self._say_best(method)])
        return tuple(found)

    def _say_best(self, method: str) -> str:
        """Returns whose operating point costs least at its worst; empty where there is one system alone."""
        first = self.matrices[0]
        if len(self.matrices) == 1 and not first.title.startswith(SYSTEMS_ON):
            return ""
        worst = (
            [(matrix.title, matrix, matrix.worst(method)) for matrix in self.matrices]
            if len(self.matrices) > 1
            else [(ends.name, first, first.worst(method, ends.name)) for ends in first.ends]
        )
        excess = {name: matrix.excess(item) for name, matrix, item in worst if item}
        if len(excess) < 2:
            return ""
        best, *others = sorted(excess, key=lambda name: excess[name])
        unit, of_what = (FRACTION, "half total error") if method == EER_POINT else (COST, "actual cost")
        told = {name: format_measure(value, unit).replace("%", "points") for name, value in excess.items()}
        rest = ", ".join(f"{name} {told[name]}" for name in others)
        lead = f"Of {len(told)} systems {METHODS[method]} of {best} travels best"
        return f"{lead}: {told[best]} {of_what} above the least at its worst; {rest}"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON can hold it; rates are fractions, as `unit` of each measure says."""
        content = asdict(replace(self, matrices=()))
        content["matrices"] = [
            {
                **asdict(replace(matrix, transfers=())),
                "transfers": [{**asdict(item), "is_own": item.is_own} for item in matrix.transfers],
            }
            for matrix in self.matrices
        ]
        return {**content, "verdicts": self.verdicts}


SYSTEMS_ON = "systems on "
"""The beginning of the title of a matrix of systems."""


def say_worst(matrix: TransferMatrix, worst: Transfer) -> str:
    """Returns the worst transfer of a method in a sentence."""
    measure, own = measure_of(worst.method), matrix.own(worst.target)
    found = worst.measure(measure)
    assert found is not None
    values = {item.name: format_measure(item.value, item.unit) for item in (*worst.measures, *own.measures)}
    interval = found.intervals[-1]
    ends = f"{100 * interval.level:g} % {format_interval(interval, found.unit)} over {interval.over}"
    text = (
        f"{matrix.title}: {METHODS[worst.method]} of {worst.source} does worst on {worst.target}, where it rejects "
        f"{values['miss']} of bona fide trials and accepts {values['false_alarm']} of spoofed ones: "
        f"{found.title} {values[measure]} ({ends}), {TITLES[LEAST[measure]]} there {values[LEAST[measure]]}"
    )
    if worst.method == EER_POINT:
        text += f", EER {values['eer']}"
    if "cllr" in values:
        text += f"; Cllr {values['cllr']}, min Cllr {values['min_cllr']}"
    return text
