"""The tables of robustness: what each condition costs, and the trials that flip."""

from sls.data.conditions.conditions import CLEAN
from sls.engine.evaluation.measures import FRACTION, Measure, format_number
from sls.engine.robustness.results import SHOWN_FLIPS, RobustnessReport
from sls.reports.tables import Number, Table, drop_empty, interval_cell

SHORT_TABLE = 6
"""Columns that a console has room for."""


def tabulate_conditions(report: RobustnessReport) -> Table:
    """Returns a row for each condition, the worst first and controls last, then one of clean recordings."""
    rows: list[list[str | Number]] = []
    for found in report.results:
        eer, difference, *errors = found.measures
        ends = [
            measure.interval(is_clustered=kind) for measure in (eer, difference) for kind in (False, True)
        ]
        rows.append(
            [
                found.name,
                *map(_rate, (eer, difference)),
                interval_cell(found.difference.tested.interval, FRACTION),
                *map(_rate, errors),
                *(interval_cell(interval, FRACTION) for interval in ends),
                Number(f"{found.num_flips:,}", found.num_flips),
                found.difference.tested.conclusion,
                found.condition.description,
            ]
        )
    columns = ["condition", "EER %", "points", "95 % interval", "miss %", "false alarm %"]
    columns += [f"{what} over {kind}" for what in ("EER", "points") for kind in ("trials", "clusters")]
    columns += ["trials that flip", "from clean", "what it does"]
    rows.append([CLEAN, _rate(report.clean), *[""] * (len(columns) - 2)])
    return drop_empty(columns, rows)


def tabulate_flips(report: RobustnessReport) -> Table:
    """Returns the trials of each condition whose score moved furthest across the clean threshold."""
    rows: list[list[str | Number]] = [
        [found.name, flip.trial, flip.label, *map(_score, (flip.clean_score, flip.degraded_score))]
        for found in report.held
        for flip in found.flips[:SHOWN_FLIPS]
    ]
    return Table(["condition", "trial", "label", "clean score", "degraded score"], rows)


def _score(value: float) -> Number:
    return Number(f"{value:.4f}", value)


def _rate(measure: Measure) -> Number:
    return Number(format_number(measure.value, FRACTION), measure.value)
