"""The tables of a report, made once from results; the page and the console show the same ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sls.engine.evaluation.comparison_results import Comparison, Difference
from sls.engine.evaluation.measures import (
    COST,
    FRACTION,
    TITLES,
    format_interval,
    format_measure,
    format_number,
    format_p_value,
)
from sls.engine.evaluation.results import Breakdown, Cell, Evaluation
from sls.metrics.intervals import Interval
from sls.quotation import make_visible

NO_VALUE = "-"
HEAT_TITLES = {"eer": "EER (%)", "min_tdcf": "min t-DCF"}


class Number(NamedTuple):
    """What a person reads in a cell of numbers."""

    text: str
    value: float | None = None
    """By which it sorts, and is coloured in a heat map; None sorts last."""
    tip: str = ""
    """What a pointer shows."""


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Number]]
    is_heat_map: bool = False
    """Whether its numbers are coloured by their share of the largest."""

    @property
    def are_numbers(self) -> list[bool]:
        """Whether each column holds numbers."""
        return [
            any(isinstance(row[place], Number) for row in self.rows) for place in range(len(self.columns))
        ]

    @property
    def largest(self) -> float:
        """The largest number."""
        cells = (cell for row in self.rows for cell in row if isinstance(cell, Number))
        return max((cell.value for cell in cells if cell.value is not None), default=0.0) or 1.0


def label_value(value: str) -> str:
    """Returns a value of a key as a label; the keys write `-` for nothing."""
    return "(none)" if value == "-" else make_visible(value)


def text_of(cell: str | Number) -> str:
    """Returns what a person reads in a cell."""
    return cell if isinstance(cell, str) else cell.text


def tabulate_measures(evaluations: Sequence[Evaluation], names: Collection[str] = TITLES) -> Table:
    """Returns a row for each measure of each system, with its intervals; of one also how many trials it has."""
    first, is_one = evaluations[0], len(evaluations) == 1
    over = {
        interval.is_clustered: f"{100 * interval.level:g} % over {interval.over}"
        for interval in first.measures[0].intervals
    }
    rows: list[list[str | Number]] = [
        [
            f"{measure.title} %" if measure.unit == FRACTION else measure.title,
            evaluation.system,
            Number(format_number(measure.value, measure.unit), measure.value),
            *(interval_cell(measure.interval(is_clustered=kind), measure.unit, "") for kind in over),
        ]
        for name in names
        for evaluation in evaluations
        if (measure := evaluation.measure(name)) is not None
    ]
    if not is_one:
        return Table(["measure", "system", "value", *over.values()], rows)
    counts = {"bona fide trials": first.num_bonafide, "spoofed trials": first.num_spoof}
    of_one = [[title, *numbers] for title, _, *numbers in rows]
    of_one += [[title, Number(str(count), count), *("" for _ in over)] for title, count in counts.items()]
    return Table(["metric", "value", *over.values()], of_one)


def explain_intervals(evaluation: Evaluation) -> str:
    """Returns what intervals rest on, and what uncalibrated scores mean for some measures."""
    trials, *others = evaluation.measures[0].intervals
    sentences = [
        f"Intervals are {100 * trials.level:g} % intervals of as many independent trials as have the variance of the "
        "measure (Korn and Graubard), with a t quantile for the number of clusters.",
        f"Those over trials take trials for independent; those over {others[0].over} do not."
        if others
        else "They take trials for independent, since the key knows no two speakers and no two attacks: "
        "where trials of one speaker or attack are alike, they are too narrow.",
        "Cllr is in bits.",
    ]
    if not evaluation.is_calibrated:
        sentences.append(
            "Actual DCF and Cllr take the scores for log-likelihood ratios, as they stand in the file."
        )
    return " ".join(sentences)


def tabulate_confusion(evaluation: Evaluation) -> Table:
    """Returns how many trials of each class are accepted and rejected at the EER threshold."""
    found = evaluation.confusion
    counts = {
        "bona fide": (found.accepted_bonafide, found.rejected_bonafide),
        "spoofed": (found.accepted_spoof, found.rejected_spoof),
    }
    rows: list[list[str | Number]] = [[name, *map(_count, both)] for name, both in counts.items()]
    what = "log-likelihood ratio" if evaluation.is_calibrated else "score"
    return Table([f"trials, at the {what} {evaluation.eer_threshold:.6g}", "accepted", "rejected"], rows)


def tabulate_breakdown(breakdown: Breakdown) -> Table:
    """Returns the cells of a breakdown by one field, with their intervals."""
    rows = []
    for cell in breakdown.cells:
        intervals = {interval.is_clustered: interval for interval in cell.intervals}
        clustered = intervals.get(True)
        row: list[str | Number] = [
            label_value(cell.values[0]),
            _count(cell.num_bonafide),
            _count(cell.num_spoof),
            _cell_number(cell, "eer"),
            interval_cell(intervals.get(False), FRACTION),
            interval_cell(clustered, FRACTION),
            clustered.over if clustered else NO_VALUE,
            _cell_number(cell, "min_tdcf"),
            cell.note,
        ]
        rows.append(row)
    header = [breakdown.fields[0], "bona fide", "spoofed", HEAT_TITLES["eer"]]
    header += ["over trials", "over clusters", "clusters", HEAT_TITLES["min_tdcf"], "note"]
    return drop_empty(header, rows)


def cross_breakdown(breakdown: Breakdown, measure: str) -> Table:
    """Returns a measure (`eer` or `min_tdcf`) of each cell of a breakdown by two fields: its heat map."""
    cells = {cell.values: cell for cell in breakdown.cells}
    rows: list[list[str | Number]] = [
        [label_value(row), *(_cell_number(cells.get((row, column)), measure) for column in breakdown.axis(1))]
        for row in breakdown.axis(0)
    ]
    return Table([HEAT_TITLES[measure], *map(label_value, breakdown.axis(1))], rows, is_heat_map=True)


def tabulate_differences(differences: Sequence[Difference]) -> Table:
    """Returns the difference of each pair of systems, with intervals and p-values."""
    rows: list[list[str | Number]] = []
    for difference in differences:
        trials, clusters, tested = difference.over_trials, difference.over_clusters, difference.tested
        value = format_measure(difference.value, difference.unit).replace("%", "points")
        p_values = (tested.p_value, tested.p_value_holm)
        rows.append(
            [
                f"{difference.first} minus {difference.second}",
                TITLES[difference.measure],
                Number(value, difference.value),
                interval_cell(trials.interval, difference.unit),
                interval_cell(clusters.interval if clusters else None, difference.unit),
                *(Number(NO_VALUE if p is None else format_p_value(p), p) for p in p_values),
                f"over {tested.interval.over}: {tested.conclusion}",
            ]
        )
    header = ["pair", "measure", "difference", "interval over trials", "interval over clusters"]
    return drop_empty([*header, "p", "p (Holm, all pairs)", "verdict"], rows)


def tabulate_disagreements(comparison: Comparison) -> Table:
    """Returns the trials on which systems disagree most; ranks in percent of all trials that score lower."""
    rows: list[list[str | Number]] = [
        [
            found.trial,
            found.label,
            *(Number(f"{100 * share:.1f}", share) for share in (*found.ranks.values(), found.spread)),
            ", ".join(f"{name} {value}" for name, value in found.fields.items()),
        ]
        for found in comparison.disagreements
    ]
    systems = [evaluation.system for evaluation in comparison.evaluations]
    return drop_empty(["trial", "label", *systems, "spread", "key"], rows)


def tabulate_provenance(provenance: Mapping[str, Any]) -> Table:
    """Returns the files and settings behind the numbers."""
    rows = [
        [name, ", ".join(f"{key} {value}" for key, value in content.items())]
        for name, content in provenance.items()
    ]
    return Table(["what", "content"], rows)


def drop_empty(columns: Sequence[str], rows: Sequence[Sequence[str | Number]]) -> Table:
    """Returns a table without the columns in which no row has anything."""
    kept = [
        place
        for place in range(len(columns))
        if not rows or any(text_of(row[place]) not in ("", NO_VALUE) for row in rows)
    ]
    return Table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


def _count(number: int) -> Number:
    return Number(f"{number:,}", number)


def interval_cell(interval: Interval | None, unit: str, absent: str = NO_VALUE) -> Number:
    """Returns an interval as a cell that sorts by its lower end; what stands in the place of none."""
    return Number(absent) if interval is None else Number(format_interval(interval, unit), interval.low)


def _cell_number(cell: Cell | None, measure: str) -> Number:
    if cell is None:
        return Number(NO_VALUE, tip="no trial")
    value = getattr(cell, measure)
    text = NO_VALUE if value is None else format_number(value, FRACTION if measure == "eer" else COST)
    return Number(text, value, cell.note or f"{cell.num_bonafide:,} bona fide, {cell.num_spoof:,} spoofed")
