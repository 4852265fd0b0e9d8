"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from sls.reports.figure_style import SYSTEM_COLOURS, label_value
from sls.reports.figures import det_limits
from sls.reports.page import (
    NO_VALUE,
    TableCell,
    render_heat_table,
    render_image,
    render_section,
    render_table,
)


def tabulate_measures(evaluation: Evaluation) -> str:
    """Returns every measure of a system, with its intervals."""
    rows: list[list[TableCell]] = []
    for measure in evaluation.measures:
        trials, clusters = measure.interval(), measure.interval(is_clustered=True)
        rows.append(
            [
                measure.title,
                (format_measure(measure.value, measure.unit), measure.value),
                _interval_cell(trials, measure.unit),
                _interval_cell(clusters, measure.unit),
            ]
        )
    header = ["measure", "value", "interval over trials", f"interval over {_clusters_of(evaluation)}"]
    return render_table(header, rows)


def tabulate_confusion(evaluation: Evaluation) -> str:
    """Returns how many trials of each class are accepted and rejected at the EER threshold."""
    found = evaluation.confusion
    rows: list[list[TableCell]] = [
        [name, (f"{accepted:,}", accepted), (f"{rejected:,}", rejected)]
        for name, accepted, rejected in (
            ("bona fide", found.accepted_bonafide, found.rejected_bonafide),
            ("spoofed", found.accepted_spoof, found.rejected_spoof),
        )
    ]
    return render_table([f"trials, at {evaluation.eer_threshold:.6g}", "accepted", "rejected"], rows)


def tabulate_systems(evaluations: Sequence[Evaluation]) -> str:
    """Returns one row for each measure and system, with intervals where there are any."""
    kinds = {interval.is_clustered: interval.over for interval in evaluations[0].measures[0].intervals}
    rows: list[list[TableCell]] = []
    for name in [measure.name for measure in evaluations[0].measures]:
        for evaluation in evaluations:
            found = evaluation.measure(name)
            if found is None:
                continue
            intervals = [_interval_text(found.interval(is_clustered=kind), found.unit) for kind in kinds]
            rows.append(
                [
                    found.title,
                    evaluation.system,
                    (format_measure(found.value, found.unit), found.value),
                    *intervals,
                ]
            )
    return render_table(
        ["measure", "system", "value", *(f"interval over {over}" for over in kinds.values())], rows
    )


def _interval_text(interval: Interval | None, unit: str) -> str:
    return NO_VALUE if interval is None else format_interval(interval, unit)


def _interval_cell(interval: Interval | None, unit: str) -> TableCell:
    return _interval_text(interval, unit), interval.low if interval else None


def _clusters_of(evaluation: Evaluation) -> str:
    interval = evaluation.measures[0].interval(is_clustered=True)
    return interval.over if interval is not None else "speakers (not known)"


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
    ]
    if not evaluation.is_calibrated:
        sentences.append(
            "Actual DCF and Cllr take the scores as log-likelihood ratios, and these were not calibrated."
        )
    return f'<p class="muted">{" ".join(sentences)}</p>'


def render_breakdown(breakdown: Breakdown, pictures: Mapping[str, bytes]) -> str:
    """Returns the section of one breakdown: a table with intervals, or heat maps."""
    name = "_".join(breakdown.fields)
    if len(breakdown.fields) == 1:
        image = render_image(pictures[f"eer_by_{name}"], f"EER by {name}")
        kind = (
            "selects spoofed trials, against all bona fide ones"
            if breakdown.is_spoof_only[0]
            else "selects trials of both classes"
        )
        note = f'<p class="muted">{breakdown.title} {kind}</p>'
        return render_section(f"By {breakdown.title}", note, _tabulate_cells(breakdown), image)
    parts = [_heat_table(breakdown, "eer", "EER (%)")]
    if f"min_tdcf_by_{name}" in pictures:
        parts.append(_heat_table(breakdown, "min_tdcf", "min t-DCF"))
    return render_section(f"By {breakdown.title}", *parts)


def _tabulate_cells(breakdown: Breakdown) -> str:
    has_tdcf = any(cell.min_tdcf is not None for cell in breakdown.cells)
    rows = []
    for cell in breakdown.cells:
        intervals = {interval.is_clustered: interval for interval in cell.intervals}
        row: list[TableCell] = [
            label_value(cell.values[0]),
            (f"{cell.num_bonafide:,}", cell.num_bonafide),
            (f"{cell.num_spoof:,}", cell.num_spoof),
            (_cell_text(cell, "eer"), cell.eer),
            _interval_text(intervals.get(False), FRACTION),
            _interval_text(intervals.get(True), FRACTION),
            intervals[True].over if True in intervals else NO_VALUE,
        ]
        if has_tdcf:
            row.append((_cell_text(cell, "min_tdcf"), cell.min_tdcf))
        rows.append([*row, cell.note])
    header = [
        breakdown.fields[0],
        "bona fide",
        "spoofed",
        "EER (%)",
        "over trials",
        "over clusters",
        "clusters",
    ]
    return render_table([*header, *(["min t-DCF"] if has_tdcf else []), "note"], rows)


def _cell_text(cell: Cell, measure: str) -> str:
    value = getattr(cell, measure)
    return NO_VALUE if value is None else format_number(value, FRACTION if measure == "eer" else COST)


def _heat_table(breakdown: Breakdown, measure: str, title: str) -> str:
    cells = {cell.values: cell for cell in breakdown.cells}
    columns = breakdown.axis(1)
    rows = {}
    for row in breakdown.axis(0):
        found = [cells.get((row, column)) for column in columns]
        rows[label_value(row)] = [
            (NO_VALUE, None, "no trial")
            if cell is None
            else (
                _cell_text(cell, measure),
                getattr(cell, measure),
                cell.note or f"{cell.num_bonafide:,} bona fide, {cell.num_spoof:,} spoofed",
            )
            for cell in found
        ]
    return render_heat_table(title, [label_value(column) for column in columns], rows)


def tabulate_differences(differences: Sequence[Difference]) -> str:
    """Returns the difference of each pair of systems, with intervals and p-values."""
    rows: list[list[TableCell]] = []
    for difference in differences:
        trials, clusters, tested = difference.over_trials, difference.over_clusters, difference.tested
        p_values = (tested.p_value, tested.p_value_holm)
        rows.append(
            [
                f"{difference.first} minus {difference.second}",
                TITLES[difference.measure],
                (format_measure(difference.value, difference.unit).replace("%", "points"), difference.value),
                _interval_text(trials.interval, difference.unit),
                _interval_text(clusters.interval if clusters else None, difference.unit),
                *((NO_VALUE if p is None else format_p_value(p), p) for p in p_values),
                f"over {tested.interval.over}: {tested.conclusion}",
            ]
        )
    header = ["pair", "measure", "difference", "interval over trials", "interval over clusters"]
    return render_table([*header, "p", "p (Holm, all pairs)", "verdict"], rows)


def tabulate_disagreements(comparison: Comparison) -> str:
    """Returns the trials on which systems disagree most."""
    if not comparison.disagreements:
        return "<p>None was asked for.</p>"
    systems = list(comparison.disagreements[0].ranks)
    rows: list[list[TableCell]] = [
        [
            found.trial,
            found.label,
            *((f"{100 * found.ranks[system]:.1f}", found.ranks[system]) for system in systems),
            (f"{100 * found.spread:.1f}", found.spread),
            ", ".join(f"{name} {value}" for name, value in found.fields.items()),
        ]
        for found in comparison.disagreements
    ]
    note = '<p class="muted">Percentage of all trials that score lower, since two systems have no common scale.</p>'
    return note + render_table(["trial", "label", *systems, "spread", "key"], rows)


def det_data(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Returns what `render_det` draws."""
    low, high = det_limits([evaluation.eer for evaluation in evaluations])
    curves = [
        {
            "name": f"{evaluation.system}, EER {format_measure(evaluation.eer)}",
            "colour": SYSTEM_COLOURS[place % len(SYSTEM_COLOURS)],
            "eer": evaluation.eer,
            "far": evaluation.curve.far.round(7).tolist(),
            "frr": evaluation.curve.frr.round(7).tolist(),
        }
        for place, evaluation in enumerate(evaluations)
    ]
    return {"low": low, "high": high, "curves": curves}


def render_provenance(provenance: Mapping[str, Any]) -> str:
    """Returns the files and settings behind the numbers."""
    rows = [
        [name, ", ".join(f"{key} {value}" for key, value in content.items())]
        for name, content in provenance.items()
    ]
    return render_table(["what", "content"], rows)
