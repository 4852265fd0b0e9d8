"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sls.engine.comparison_results import Comparison, Difference, Resampled
from sls.engine.results import BITS, FRACTION, TITLES, Breakdown, Cell, Evaluation, Measure
from sls.metrics.bootstrap import Interval
from sls.tracking.figure_style import SYSTEM_COLOURS, label_value
from sls.tracking.figures import det_limits
from sls.tracking.report_page import (
    NO_VALUE,
    TableCell,
    render_heat_table,
    render_image,
    render_section,
    render_table,
)


def format_measure(measure: Measure) -> str:
    """Returns a number with its unit, as a person reads it."""
    return _format(measure.value, measure.unit)


def format_interval(interval: Interval | None, unit: str) -> str:
    """Returns an interval in the unit that a person reads, such as `[3.41, 3.62]`."""
    if interval is None:
        return NO_VALUE
    factor, digits = (100, 2) if unit == FRACTION else (1, 4)
    return f"[{factor * interval.low:.{digits}f}, {factor * interval.high:.{digits}f}]"


def _format(value: float, unit: str) -> str:
    if unit == FRACTION:
        return f"{100 * value:.2f} %"
    return f"{value:.4f} bits" if unit == BITS else f"{value:.4f}"


def tabulate_measures(evaluation: Evaluation) -> str:
    """Returns every measure of a system, with its intervals."""
    rows: list[list[TableCell]] = []
    for measure in evaluation.measures:
        trials, clusters = measure.interval("trials"), measure.interval("clusters")
        rows.append(
            [
                measure.title,
                (format_measure(measure), measure.value),
                (format_interval(trials, measure.unit), trials.low if trials else None),
                (format_interval(clusters, measure.unit), clusters.low if clusters else None),
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
    over = [interval.over for interval in evaluations[0].measures[0].intervals]
    rows: list[list[TableCell]] = []
    for name in [measure.name for measure in evaluations[0].measures]:
        for evaluation in evaluations:
            found = evaluation.measure(name)
            if found is None:
                continue
            intervals = [format_interval(found.interval(kind), found.unit) for kind in over]
            rows.append([found.title, evaluation.system, (format_measure(found), found.value), *intervals])
    return render_table(["measure", "system", "value", *(f"interval over {kind}" for kind in over)], rows)


def _clusters_of(evaluation: Evaluation) -> str:
    interval = evaluation.measures[0].interval("clusters")
    return interval.over if interval is not None else "speakers (not known)"


def explain_intervals(evaluation: Evaluation) -> str:
    """Returns what intervals rest on, and what uncalibrated scores mean for some measures."""
    settings = evaluation.provenance.get("bootstrap", {})
    trials, *others = [interval.over for interval in evaluation.measures[0].intervals] or [""]
    sentences = []
    if trials:
        sentences.append(
            f"Intervals are {100 * settings.get('level', 0.95):g} % percentile intervals of "
            f"{settings.get('num_resamples', 0):,} bootstrap resamples."
        )
    if others:
        sentences.append(f"Those over {trials} suppose independent trials; those over {others[0]} do not.")
    elif trials:
        sentences.append("They suppose independent trials.")
    if not evaluation.is_calibrated:
        sentences.append(
            "Actual DCF and Cllr take the scores as log-likelihood ratios, and these were not calibrated."
        )
    return f'<p class="muted">{" ".join(sentences)}</p>' if sentences else ""


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
        intervals = {interval.over == "trials": interval for interval in cell.intervals}
        row: list[TableCell] = [
            label_value(cell.values[0]),
            (f"{cell.num_bonafide:,}", cell.num_bonafide),
            (f"{cell.num_spoof:,}", cell.num_spoof),
            (_cell_text(cell, "eer"), cell.eer),
            format_interval(intervals.get(True), FRACTION),
            format_interval(intervals.get(False), FRACTION),
        ]
        if has_tdcf:
            row.append((_cell_text(cell, "min_tdcf"), cell.min_tdcf))
        rows.append([*row, cell.note])
    header = [breakdown.fields[0], "bona fide", "spoofed", "EER (%)", "over trials", "over clusters"]
    return render_table([*header, *(["min t-DCF"] if has_tdcf else []), "note"], rows)


def _cell_text(cell: Cell, measure: str) -> str:
    value = getattr(cell, measure)
    if value is None:
        return NO_VALUE
    return f"{100 * value:.2f}" if measure == "eer" else f"{value:.4f}"


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
    is_one_of_many = len({(found.first, found.second) for found in differences}) > 1
    rows: list[list[TableCell]] = []
    for difference in differences:
        rows.append(
            [
                f"{difference.first} minus {difference.second}",
                TITLES[difference.measure],
                (_format(difference.value, difference.unit).replace("%", "points"), difference.value),
                *_resampled_cells(difference.over_trials, difference.unit, is_one_of_many),
                *_resampled_cells(difference.over_clusters, difference.unit, is_one_of_many),
            ]
        )
    header = ["pair", "measure", "difference", "interval over trials", "p", "p (Holm)"]
    return render_table([*header, "interval over clusters", "p", "p (Holm)"], rows)


def _resampled_cells(resampled: Resampled | None, unit: str, is_one_of_many: bool) -> list[TableCell]:
    if resampled is None:
        return [NO_VALUE, NO_VALUE, NO_VALUE]
    p_value, adjusted = ((f"{value:.3f}", value) for value in (resampled.p_value, resampled.p_value_holm))
    # One pair alone has nothing to adjust.
    return [format_interval(resampled.interval, unit), p_value, adjusted if is_one_of_many else NO_VALUE]


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
            "name": f"{evaluation.system}, EER {100 * evaluation.eer:.2f} %",
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
