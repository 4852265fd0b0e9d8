"""Figures of breakdowns and of differences: heat maps and intervals."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sls.engine.evaluation.comparison_results import Comparison, Difference
from sls.engine.evaluation.measures import FRACTION, TITLES
from sls.engine.evaluation.results import POOLED, Breakdown, Cell, Evaluation
from sls.metrics.intervals import Interval
from sls.reports.figure_style import (
    BONAFIDE_COLOUR,
    GRID_COLOUR,
    LABEL_SIZE,
    MUTED_COLOUR,
    SPOOF_COLOUR,
    TICK_SIZE,
    describe,
    label_value,
    new_figure,
    set_title,
)

HEAT_COLOURS = "YlOrRd"
MAX_ROWS = 30
"""More rows than this do not fit a slide: the hardest are drawn, and the title says so."""
SHORT_LABEL = 7
DARK_LUMINANCE = 0.5
EMPTY_COLOUR = "#eeeeee"


def heat_map_figure(evaluation: Evaluation, breakdown: Breakdown, measure: str = "eer") -> Figure:
    """Draws a measure of each cell of a breakdown by two fields, with its number in it.

    Args:
        evaluation: Where the breakdown is from.
        breakdown: By two fields; the first gives the rows.
        measure: `eer`, drawn in percent, or `min_tdcf`.
    """
    factor = 100 if measure == "eer" else 1
    cells = {cell.values: cell for cell in breakdown.cells}
    columns = breakdown.axis(1)
    rows, left_out = _pick_rows(breakdown, cells, measure)
    numbers = np.array(
        [[_number(cells.get((row, column)), measure, factor) for column in columns] for row in rows]
    )
    width = max(7.0, 2.6 + 0.82 * len(columns))
    is_slanted = max(map(len, columns)) > SHORT_LABEL
    figure, axes = new_figure(width, 1.9 + 0.36 * len(rows) + (0.5 if is_slanted else 0))
    _draw_cells(axes, numbers, "{:.1f}" if measure == "eer" else "{:.3f}")
    labels = [label_value(column) for column in columns]
    slant: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_slanted else {}
    axes.set_xticks(range(len(columns)), labels, **slant)
    axes.set_yticks(range(len(rows)), [label_value(row) for row in rows])
    axes.set_xlabel(breakdown.fields[1], fontsize=LABEL_SIZE)
    axes.set_ylabel(breakdown.fields[0], fontsize=LABEL_SIZE)
    _part_pooled(axes, rows, columns)
    title = "EER (%)" if measure == "eer" else TITLES[measure]
    note = describe(evaluation.track, evaluation.subset, evaluation.corpus)
    shown = f"; the {len(rows) - 1} hardest of {len(rows) - 1 + left_out}" if left_out else ""
    what = f"{evaluation.system}, by {breakdown.title}{shown}"
    set_title(figure, axes, f"{title}, {note}", what, evaluation.corpus)
    return figure


def interval_figure(evaluation: Evaluation, breakdown: Breakdown) -> Figure:
    """Draws the EER of each value of one field with its intervals, and the pooled EER as a line."""
    cells = [cell for cell in breakdown.cells if cell.eer is not None]
    left_out = max(len(cells) - MAX_ROWS, 0)
    if left_out:
        hardest = sorted(cells, key=lambda cell: -(cell.eer or 0))[:MAX_ROWS]
        cells = [cell for cell in cells if cell in hardest]
    figure, axes = new_figure(8.2, 2.3 + 0.36 * len(cells))
    for place, cell in enumerate(cells):
        _draw_interval(axes, place, cell)
    axes.axvline(100 * evaluation.eer, color=MUTED_COLOUR, linestyle="--", linewidth=1.2, label="pooled")
    axes.set_yticks(range(len(cells)), [label_value(cell.values[0]) for cell in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("EER, %", fontsize=LABEL_SIZE)
    axes.set_ylabel(breakdown.fields[0], fontsize=LABEL_SIZE)
    _explain_bars(figure, axes, 3)
    note = describe(evaluation.track, evaluation.subset, evaluation.corpus)
    shown = f"; the {len(cells)} hardest of {len(cells) + left_out}" if left_out else ""
    set_title(
        figure, axes, f"EER by {breakdown.title}, {note}", f"{evaluation.system}{shown}", evaluation.corpus
    )
    return figure


def difference_figure(comparison: Comparison, measure: str = "eer") -> Figure:
    """Draws the difference of each pair of systems with its intervals: where they cross 0, data cannot tell."""
    differences = [found for found in comparison.differences if found.measure == measure]
    factor = 100 if measure == "eer" else 1
    figure, axes = new_figure(8.6, 2.4 + 0.62 * len(differences))
    for place, difference in enumerate(differences):
        _draw_difference(axes, place, difference, factor)
    axes.axvline(0, color="black", linewidth=1)
    names = [f"{difference.first} minus {difference.second}" for difference in differences]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    unit = "points" if differences[0].unit == FRACTION else "cost"
    axes.set_xlabel(
        f"difference in {TITLES[measure]}, {unit} (below 0: the first is better)", fontsize=LABEL_SIZE
    )
    _explain_bars(figure, axes, 2)
    note = describe(comparison.track, comparison.subset, comparison.corpus)
    what = f"{comparison.num_common:,} common trials"
    set_title(figure, axes, f"Differences in {TITLES[measure]}, {note}", what, comparison.corpus)
    return figure


def _pick_rows(
    breakdown: Breakdown, cells: dict[tuple[str, ...], Cell], measure: str
) -> tuple[list[str], int]:
    """Returns the rows to draw, in their order, pooled last, and how many are left out."""
    rows = [row for row in breakdown.axis(0) if row != POOLED]
    if len(rows) <= MAX_ROWS:
        return [*rows, POOLED], 0

    def hardness(row: str) -> float:
        number = _number(cells.get((row, POOLED)), measure, 1)
        return -np.inf if np.isnan(number) else number

    hardest = set(sorted(rows, key=hardness, reverse=True)[:MAX_ROWS])
    return [*(row for row in rows if row in hardest), POOLED], len(rows) - MAX_ROWS


def _number(cell: Cell | None, measure: str, factor: float) -> float:
    value = None if cell is None else getattr(cell, measure)
    return float("nan") if value is None else factor * value


def _draw_cells(axes: Axes, numbers: np.ndarray, form: str) -> None:
    colours = mpl.colormaps[HEAT_COLOURS].with_extremes(bad=EMPTY_COLOUR)
    known = numbers[np.isfinite(numbers)]
    top = float(known.max()) if known.size and known.max() > 0 else 1.0
    image = axes.imshow(np.ma.masked_invalid(numbers), cmap=colours, vmin=0, vmax=top, aspect="auto")
    for row, column in np.ndindex(*numbers.shape):
        number = numbers[row, column]
        text = form.format(number) if np.isfinite(number) else "-"
        red, green, blue, _ = image.to_rgba(number) if np.isfinite(number) else (1, 1, 1, 1)
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < DARK_LUMINANCE
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=TICK_SIZE,
            color="white" if is_dark else "#222222",
        )
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)


def _part_pooled(axes: Axes, rows: list[str], columns: tuple[str, ...]) -> None:
    if rows[-1] == POOLED:
        axes.axhline(len(rows) - 1.5, color="white", linewidth=5)
    if columns[-1] == POOLED:
        axes.axvline(len(columns) - 1.5, color="white", linewidth=5)


def _explain_bars(figure: Figure, axes: Axes, num_columns: int) -> None:
    """Draws the grid behind intervals, and a legend that has each kind once."""
    axes.grid(axis="x", color=GRID_COLOUR, linewidth=0.7)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    style: dict[str, Any] = {"fontsize": TICK_SIZE, "frameon": False, "loc": "outside lower center"}
    figure.legend(unique.values(), unique.keys(), ncols=num_columns, **style)


def _draw_interval(axes: Axes, place: int, cell: Cell) -> None:
    for interval in cell.intervals:
        # Without their numbers, which differ from cell to cell; the table has them.
        _draw_bar(axes, place, interval, 100, " and ".join(interval.clusters) or interval.over)
    axes.plot([100 * (cell.eer or 0)], [place], "o", color=BONAFIDE_COLOUR, markersize=6, zorder=4)


def _draw_difference(axes: Axes, place: int, difference: Difference, factor: float) -> None:
    for tested in (difference.over_trials, difference.over_clusters):
        if tested is not None:
            _draw_bar(axes, place, tested.interval, factor, tested.interval.over)
    value = factor * difference.value
    axes.plot([value], [place], "o", color=BONAFIDE_COLOUR, markersize=8, zorder=4)
    text = f"{value:+.2f}" if factor == 100 else f"{value:+.4f}"
    style: dict[str, Any] = {"ha": "center", "fontsize": TICK_SIZE, "textcoords": "offset points"}
    axes.annotate(text, (value, place), xytext=(0, 9), **style)


def _draw_bar(axes: Axes, place: int, interval: Interval, factor: float, over: str) -> None:
    """Draws an interval: over trials as a broad bar, over clusters as a thin line with ends."""
    style: dict[str, Any] = {"color": SPOOF_COLOUR, "linewidth": 1.5, "marker": "|", "zorder": 3}
    if not interval.is_clustered:
        style = {
            "color": BONAFIDE_COLOUR,
            "linewidth": 5,
            "alpha": 0.5,
            "solid_capstyle": "butt",
            "zorder": 2,
        }
    label = f"{100 * interval.level:g} % over {over}"
    axes.plot([factor * interval.low, factor * interval.high], [place, place], label=label, **style)
