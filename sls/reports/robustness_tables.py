"""The tables of robustness: what each condition costs, and the trials that flip."""

from sls.data.conditions.conditions import CLEAN
from sls.engine.evaluation.measures import FRACTION, Measure, format_number
from sls.engine.robustness.results import SHOWN_FLIPS, RobustnessReport
from sls.reports.tables import NO_VALUE, Number, Table, drop_empty, interval_cell


def tabulate_conditions(report: RobustnessReport) -> Table:
    """Returns a row for each condition, the worst first and controls last, then one of clean recordings."""
    rows: list[list[str | Number]] = [
        [
            found.name,
            _rate(found.measures[0]),
            _rate(found.measures[1]),
            interval_cell(found.difference.tested.interval, FRACTION),
            *map(_rate, found.measures[2:]),
        ]
        for found in report.results
    ]
    rows.append([CLEAN, _rate(report.clean), *[Number(NO_VALUE)] * 4])
    return Table(["condition", "EER %", "points", "95 % interval", "miss %", "false alarm %"], rows)


def list_conditions(report: RobustnessReport) -> Table:
    """Returns a row for each condition with every interval, what was concluded, and what it does to a recording."""
    rows: list[list[str | Number]] = [
        [
            found.name,
            *(cell for measure in found.measures for cell in _with_intervals(measure)),
            Number(f"{found.num_flips:,}", found.num_flips),
            found.difference.tested.conclusion,
            found.condition.description,
        ]
        for found in report.results
    ]
    header = ["condition"]
    for title in ("EER %", "difference, points", "miss %", "false alarm %"):
        header += [title, f"{title} over trials", f"{title} over clusters"]
    return drop_empty([*header, "trials that flip", "from clean", "what it does"], rows)


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


def _with_intervals(measure: Measure) -> list[Number]:
    ends = (measure.interval(is_clustered=kind) for kind in (False, True))
    return [_rate(measure), *(interval_cell(found, FRACTION) for found in ends)]
