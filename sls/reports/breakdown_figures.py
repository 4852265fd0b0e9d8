"""Figures of breakdowns, of differences, of transfers and of conditions: heat maps and intervals."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sls.engine.evaluation.comparison_results import Comparison, Difference
from sls.engine.evaluation.measures import FRACTION, TITLES, format_measure, scale_of
from sls.engine.evaluation.results import Breakdown, Evaluation
from sls.engine.evaluation.transfer_results import METHODS, TransferMatrix, TransferReport, measure_of
from sls.engine.robustness.results import RobustnessReport
from sls.metrics.intervals import Interval
from sls.reports.figure_style import (
    BONAFIDE_COLOUR,
    LABEL_SIZE,
    MUTED_COLOUR,
    SPOOF_COLOUR,
    TICK_SIZE,
    break_label,
    draw_grid,
    draw_legend_below,
    new_figure,
    set_title,
    title_figure,
)
from sls.reports.tables import Number, Table, cross_breakdown, label_value
from sls.reports.transfer_tables import cross_transfers

HEAT_COLOURS = "YlOrRd"
MAX_ROWS = 30
"""More rows than this do not fit a slide: the hardest are drawn, and the title says so."""
SHORT_LABEL = 7
MAX_LEGEND = 80
"""Characters of a legend in one row."""
MARGIN_POINTS = 2
"""Of a figure of differences, at least, around intervals over trials."""
DARK_SHARE = 188 / 256
"""From here on white stands out from the heat colours more than black does; both by 4.5 to 1 at least."""
EMPTY_COLOUR = "#eeeeee"
BAR_STYLES: dict[bool, dict[str, Any]] = {
    False: {"color": BONAFIDE_COLOUR, "linewidth": 5, "alpha": 0.5, "solid_capstyle": "butt", "zorder": 2},
    True: {"color": SPOOF_COLOUR, "linewidth": 1.5, "marker": "|", "zorder": 3},
}
"""Of an interval over trials, a broad bar, and of one over clusters, a thin line with ends."""

Row = TypeVar("Row")


def heat_map_figure(evaluation: Evaluation, breakdown: Breakdown, measure: str = "eer") -> Figure:
    """Draws a measure of each cell of a breakdown by two fields, with its number in it.

    The measure is `eer`, drawn in percent, or `min_tdcf`; the first field gives the rows.
    """
    table = cross_breakdown(breakdown, measure)
    *rows, pooled = table.rows
    rows, shown = _keep_hardest(rows, _hardness_of)
    axes = _draw_heat_map(replace(table, rows=[*rows, pooled]))
    axes.set_xlabel(breakdown.fields[1], fontsize=LABEL_SIZE)
    axes.set_ylabel(breakdown.fields[0], fontsize=LABEL_SIZE)
    axes.axvline(len(table.columns) - 2.5, color="white", linewidth=5)
    title_figure(axes, table.columns[0], f"{evaluation.system}, by {breakdown.title}{shown}", evaluation)
    return cast(Figure, axes.figure)


def transfer_figure(report: TransferReport, matrix: TransferMatrix, method: str) -> Figure:
    """Draws what the operating points of a method, from each source, cost on each target."""
    table = cross_transfers(matrix, method, measure_of(method))
    axes = _draw_heat_map(table, cell_width=1.5)
    figure = cast(Figure, axes.figure)
    source = f"rows: where {METHODS[method]} was set"
    title = table.columns[0]
    set_title(figure, axes, title[0].upper() + title[1:], f"{matrix.title}; {source}", report.corpus)
    return figure


def _draw_heat_map(table: Table, cell_width: float = 0.82) -> Axes:
    """Draws the cells of a table, whose last row is of another kind and stands apart."""
    rows, columns = table.rows, table.columns[1:]
    is_slanted = max(map(len, columns)) > SHORT_LABEL / 0.82 * cell_width
    height = 1.9 + 0.36 * len(rows) + (0.5 if is_slanted else 0)
    _, axes = new_figure(max(7.0, 2.6 + cell_width * len(columns)), height)
    _draw_cells(axes, [[cell for cell in row if isinstance(cell, Number)] for row in rows], table.largest)
    slant: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_slanted else {}
    axes.set_xticks(range(len(columns)), columns, **slant)
    axes.set_yticks(range(len(rows)), [break_label(str(row[0])) for row in rows])
    axes.axhline(len(rows) - 1.5, color="white", linewidth=5)
    return axes


class _Estimate(NamedTuple):
    """A row of a figure of intervals."""

    name: str
    value: float
    bars: Sequence[tuple[str, Interval]]
    """Each with what it is over."""
    text: str = ""


def interval_figure(evaluation: Evaluation, breakdown: Breakdown) -> Figure:
    """Draws the EER of each value of one field with its intervals, and the pooled EER as a line."""
    known = [cell for cell in breakdown.cells if cell.eer is not None]
    cells, shown = _keep_hardest(known, lambda cell: cell.eer or 0.0)
    figure, axes = new_figure(8.2, 2.3 + 0.36 * len(cells))
    # Without the numbers of clusters, which differ from cell to cell; the table has them.
    rows = [
        _Estimate(
            break_label(label_value(cell.values[0])),
            cell.eer or 0.0,
            [(" and ".join(found.clusters) or found.over, found) for found in cell.intervals],
        )
        for cell in cells
    ]
    pooled = axes.axvline(100 * evaluation.eer, color=MUTED_COLOUR, linestyle="--", linewidth=1.2)
    _draw_estimates(figure, axes, rows, 100, {"pooled": pooled})
    axes.set_xlim(left=0)
    axes.set_xlabel("EER, %", fontsize=LABEL_SIZE)
    axes.set_ylabel(breakdown.fields[0], fontsize=LABEL_SIZE)
    title_figure(axes, f"EER by {breakdown.title}", f"{evaluation.system}{shown}", evaluation)
    return figure


def difference_figure(comparison: Comparison, measure: str = "eer") -> Figure:
    """Draws the difference of each pair of systems with its intervals: where they cross 0, data cannot tell."""
    differences = [found for found in comparison.differences if found.measure == measure]
    unit = differences[0].unit
    factor, digits, called = (scale_of(unit), 2, "points") if unit == FRACTION else (1, 4, "cost")
    rows = [
        _estimate_of(
            found, break_label(found.first, f"minus {found.second}"), f"{factor * found.value:+.{digits}f}"
        )
        for found in differences
    ]
    num_lines = 1 + max(row.name.count("\n") for row in rows)
    figure, axes = new_figure(8.6, 2.4 + max(0.62, 0.2 * num_lines) * len(differences))
    axes.axvline(0, color="black", linewidth=1)
    _draw_estimates(figure, axes, rows, factor, {})
    what = f"difference in {TITLES[measure]}, {called} (below 0: the first is better)"
    axes.set_xlabel(what, fontsize=LABEL_SIZE)
    subtitle = f"{comparison.num_common:,} common trials"
    title_figure(axes, f"Differences in {TITLES[measure]}", subtitle, comparison)
    return figure


def robustness_figure(report: RobustnessReport) -> Figure:
    """Draws by how much each condition moves the EER, the worst first; controls, which hold no speech, in words."""
    figure, axes = new_figure(8.6, 2.6 + 0.36 * len(report.held))
    rows = [
        _estimate_of(found.difference, f"{found.name}   {format_measure(found.value('eer'))}", "")
        for found in report.held
    ]
    clean = axes.axvline(0, color="black", linewidth=1)
    _draw_estimates(figure, axes, rows, 100, {f"clean, {format_measure(report.clean.value)}": clean})
    # Lines over few clusters are so long that nothing else could be told apart beside them.
    over_trials = [found.difference.over_trials.interval for found in report.held]
    ends = 100 * np.array([[found.low, found.high] for found in over_trials])
    low, high = min(ends.min(), 0) - MARGIN_POINTS, max(ends.max(), 0) + MARGIN_POINTS
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, 2 * low), min(right, 2 * high))
    axes.set_xlabel("EER minus that of clean recordings, points", fontsize=LABEL_SIZE)
    told = [
        f"; control {found.name}: {format_measure(found.value('eer'))}"
        for found in report.results
        if found.is_control
    ]
    is_cut = axes.get_xlim() != (left, right)
    told += ["; lines that reach the edge go on"] if is_cut else []
    title_figure(axes, "EER under conditions", report.system + "".join(told), report)
    return figure


def _estimate_of(difference: Difference, name: str, text: str) -> _Estimate:
    """Returns a row of a difference with the intervals that it has."""
    tested = (difference.over_trials, difference.over_clusters)
    bars = [(found.interval.over, found.interval) for found in tested if found is not None]
    return _Estimate(name, difference.value, bars, text)


def _keep_hardest(rows: Sequence[Row], hardness: Callable[[Row], float]) -> tuple[list[Row], str]:
    """Returns the rows to draw, in their order, and how many of how many these are where some are left out."""
    if len(rows) <= MAX_ROWS:
        return list(rows), ""
    hardest = sorted(range(len(rows)), key=lambda place: hardness(rows[place]), reverse=True)[:MAX_ROWS]
    return [rows[place] for place in sorted(hardest)], f"; the {MAX_ROWS} hardest of {len(rows)}"


def _hardness_of(row: Sequence[str | Number]) -> float:
    """Returns the pooled number of a row of a heat map; of one without such a number, less than any."""
    pooled = row[-1]
    return -1.0 if isinstance(pooled, str) or pooled.value is None else pooled.value


def _draw_cells(axes: Axes, cells: Sequence[Sequence[Number]], largest: float) -> None:
    numbers = np.array([[cell.value for cell in row] for row in cells], dtype=float)  # None becomes NaN
    colours = mpl.colormaps[HEAT_COLOURS].with_extremes(bad=EMPTY_COLOUR)
    axes.imshow(numbers, cmap=colours, vmin=0, vmax=largest, aspect="auto")
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": TICK_SIZE}
    for (row, column), number in np.ndenumerate(numbers):
        colour = "white" if number / largest >= DARK_SHARE else "black"
        axes.text(column, row, cells[row][column].text, color=colour, **style)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _draw_estimates(
    figure: Figure, axes: Axes, rows: Sequence[_Estimate], factor: float, handles: dict[str, Artist]
) -> None:
    """Draws values with their intervals, a row for each, and a legend that has each kind of interval once."""
    for place, row in enumerate(rows):
        for over, interval in row.bars:
            ends = [factor * interval.low, factor * interval.high]
            (bar,) = axes.plot(ends, [place, place], **BAR_STYLES[interval.is_clustered])
            handles[f"{100 * interval.level:g} % over {over}"] = bar
        value = factor * row.value
        axes.plot([value], [place], "o", color=BONAFIDE_COLOUR, markersize=7, zorder=4)
        style: dict[str, Any] = {"ha": "center", "fontsize": TICK_SIZE, "textcoords": "offset points"}
        axes.annotate(row.text, (value, place), xytext=(0, 9), **style)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    draw_grid(axes, "x")
    # Such as of the speakers of each class, and of attacks: too long to stand beside others.
    draw_legend_below(figure, handles, len(handles) if sum(map(len, handles)) < MAX_LEGEND else 1)
