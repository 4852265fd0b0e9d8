"""Figures of an evaluation, of a comparison and of epochs: pure functions that return a Matplotlib figure."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.measures import FRACTION, format_interval, format_measure
from sls.engine.evaluation.results import Evaluation
from sls.engine.evaluation.transfer_results import SHOWN_METHODS, TransferReport
from sls.reports.breakdown_figures import difference_figure, heat_map_figure, interval_figure, transfer_figure
from sls.reports.figure_style import (
    BONAFIDE_COLOUR,
    GRID_COLOUR,
    LABEL_SIZE,
    MUTED_COLOUR,
    PLAIN_BOX,
    SPOOF_COLOUR,
    SYSTEM_COLOURS,
    TICK_SIZE,
    describe,
    draw_grid,
    draw_legend_below,
    mark_synthetic,
    new_figure,
    new_panels,
    set_heading,
    title_figure,
)

DET_TICKS_PERCENT = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)
DET_MARGIN = 1.1
"""How far a DET plot reaches beyond its EERs, in normal deviates."""
LEAST_RATE = 1e-4
MAX_COLUMNS = 3
PANEL_WIDTH, PANEL_HEIGHT = 4.4, 3.9
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
RING_SIZE = 15
LEAST_SHARE = 0.09
"""Of a panel's height: no number fits below a lower ring."""
CHANCE_PERCENT = 50


def evaluation_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Returns every figure of an evaluation, by the name of its file without ending."""
    figures = {"det": det_figure([evaluation]), "scores": score_figure(evaluation)}
    for breakdown in evaluation.breakdowns:
        if len(breakdown.fields) == 1:
            figures[f"eer_by_{breakdown.name}"] = interval_figure(evaluation, breakdown)
        for measure in breakdown.crossed_measures:
            figures[f"{measure}_by_{breakdown.name}"] = heat_map_figure(evaluation, breakdown, measure)
    return figures


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Returns every figure of a comparison, by the name of its file without ending."""
    figures = {"det": det_figure(comparison.evaluations)}
    for measure in dict.fromkeys(difference.measure for difference in comparison.differences):
        figures[f"{measure}_differences"] = difference_figure(comparison, measure)
    return figures


def transfer_figures(report: TransferReport) -> dict[str, Figure]:
    """Returns the heat maps of transfers, numbered by their matrix, by the name of their file without ending."""
    return {
        f"{method}_{number}": transfer_figure(report, matrix, method)
        for number, matrix in enumerate(report.matrices, start=1)
        for method in SHOWN_METHODS
    }


def det_figure(evaluations: Sequence[Evaluation]) -> Figure:
    """Draws DET curves with their EER points, on axes of normal deviates (Martin et al., Eurospeech 1997)."""
    figure, axes = new_figure(7.2, 7.75 + 0.24 * len(evaluations))
    handles: dict[str, Any] = {}
    for place, evaluation in enumerate(evaluations):
        colour = SYSTEM_COLOURS[place % len(SYSTEM_COLOURS)]
        far, frr = _probit(evaluation.curve.far), _probit(evaluation.curve.frr)
        (curve,) = axes.plot(far, frr, color=colour, linewidth=2.2)
        interval = evaluation.measures[0].interval()
        ends = "" if interval is None else f" {format_interval(interval, FRACTION)}"
        eer, marker = _probit([evaluation.eer]), MARKERS[place % len(MARKERS)]
        (point,) = axes.plot(eer, eer, marker, color=colour, markersize=9, markeredgecolor="white", zorder=5)
        handles[f"{evaluation.system}: EER {format_measure(evaluation.eer)}{ends}"] = (curve, point)
    _set_probit_axes(axes, *_det_limits([evaluation.eer for evaluation in evaluations]))
    draw_legend_below(figure, handles, 1)
    first = evaluations[0]
    trials = f"{first.num_bonafide:,} bona fide and {first.num_spoof:,} spoofed trials"
    title_figure(axes, "DET curve", f"{trials}; marks: equal error rates", first)
    return figure


def locate_det_points(figure: Figure, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Returns where a DET figure, once drawn, shows which rates, so that a pointer can read them off.

    Returns:
        The `left` and `right` end of its axes, as shares of the picture's width, and for each of its `curves` a
        name, the shares `x` of its points, and their rates `far` and `frr`.
    """
    (axes,), width = figure.axes, figure.bbox.width
    curves = []
    for evaluation in evaluations:
        far, frr = evaluation.curve.far, evaluation.curve.frr
        places = axes.transData.transform(np.column_stack([_probit(far), _probit(frr)]))[:, 0] / width
        rates = {"far": far.round(7).tolist(), "frr": frr.round(7).tolist()}
        name = f"{evaluation.system}, EER {format_measure(evaluation.eer)}"
        curves.append({"name": name, "x": places.round(5).tolist(), **rates})
    return {"left": axes.bbox.x0 / width, "right": axes.bbox.x1 / width, "curves": curves}


def score_figure(evaluation: Evaluation) -> Figure:
    """Draws the scores of both classes, each as a share of its own trials, with the EER threshold."""
    figure, axes = new_figure()
    histogram = evaluation.histogram
    for counts, name, colour, hatch in (
        (histogram.bonafide, "bona fide", BONAFIDE_COLOUR, ""),
        (histogram.spoof, "spoofed", SPOOF_COLOUR, "//"),
    ):
        share = 100 * counts / max(int(counts.sum()), 1)
        fill: dict[str, Any] = {"facecolor": (colour, 0.35), "edgecolor": (colour, 0.6), "linewidth": 0}
        fill |= {"hatch": hatch, "label": f"{name} ({int(counts.sum()):,})"}
        axes.stairs(share, histogram.edges, fill=True, **fill)
        axes.stairs(share, histogram.edges, color=colour, linewidth=1.6, zorder=2)
    threshold = f"EER {format_measure(evaluation.eer)} at {evaluation.eer_threshold:.3g}"
    style: dict[str, Any] = {"color": MUTED_COLOUR, "linestyle": "--", "linewidth": 1.4}
    axes.axvline(evaluation.eer_threshold, label=threshold, **style)
    what = "log-likelihood ratio" if evaluation.is_calibrated else "score"
    axes.set_xlabel(f"{what} (higher is more bona fide)", fontsize=LABEL_SIZE)
    axes.set_ylabel("trials of the class, %", fontsize=LABEL_SIZE)
    draw_grid(axes, "y")
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.legend(fontsize=TICK_SIZE, frameon=False, loc="best")
    title_figure(axes, "Scores", evaluation.system, evaluation)
    return figure


def epochs_figure(table: pd.DataFrame, corpus: str = "") -> Figure:
    """Draws the EER of every epoch on every track, with the epoch that each recipe chose marked.

    Args:
        table: Columns `track` (each has a panel), `recipe` (each has a colour), `epoch` (from 0), `eer_percent`
            (missing where an epoch was not evaluated) and `is_chosen`; rows in any order.
        corpus: Which data this is (`demo` is labelled as synthetic).

    Raises:
        ValueError: No epoch was evaluated.
    """
    table = table.dropna(subset="eer_percent")
    if table.empty:
        raise ValueError("epochs figure: found no evaluated epoch, expected one or more")
    tracks, recipes = table["track"].unique(), table["recipe"].unique()
    num_rows = ceil(len(tracks) / MAX_COLUMNS)
    num_columns = ceil(len(tracks) / num_rows)
    width, height = max(PANEL_WIDTH * num_columns, 6.0), 1.1 + PANEL_HEIGHT * num_rows
    figure, panels = new_panels(width, height, num_rows, num_columns)
    panels[0].set_ylim(0, 1.15 * table["eer_percent"].max())
    handles: dict[str, Artist] = {}
    for number, (axes, track) in enumerate(zip(panels, tracks, strict=False)):
        axes.set_title(track, fontsize=LABEL_SIZE, loc="left")
        for place, recipe in enumerate(recipes):
            line = table[(table["track"] == track) & (table["recipe"] == recipe)].sort_values("epoch")
            if not line.empty:
                handles[recipe] = _draw_recipe(axes, line, place, len(recipes))
        chance = axes.axhline(CHANCE_PERCENT, color=MUTED_COLOUR, linestyle=":", linewidth=1.2)
        _frame(axes, is_lowest=number + num_columns >= len(tracks), is_first=number % num_columns == 0)
        mark_synthetic(axes, corpus)
    for axes in panels[len(tracks) :]:
        axes.set_visible(False)
    set_heading(figure, describe("EER by epoch and track", "", corpus), corpus)
    draw_legend_below(figure, {**handles, "chance": chance}, len(handles) + 1)
    return figure


def _det_limits(eers: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of both axes of a DET plot, as rates: as far from the EERs on either side."""
    low, high = ndtri(np.clip([min(eers), max(eers)], 10 * LEAST_RATE, 1 - 10 * LEAST_RATE))
    return max(float(ndtr(low - DET_MARGIN)), LEAST_RATE), float(ndtr(high + DET_MARGIN))


def _set_probit_axes(axes: Axes, low: float, high: float) -> None:
    ends = _probit([low, high])
    ticks = [tick for tick in DET_TICKS_PERCENT if low <= tick / 100 <= high]
    places, labels = _probit(np.array(ticks) / 100), [f"{tick:g}" for tick in ticks]
    axes.set_xticks(places, labels)
    axes.set_yticks(places, labels)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.plot(ends, ends, color=MUTED_COLOUR, linewidth=0.9, linestyle=":", zorder=1)
    axes.grid(color=GRID_COLOUR, linewidth=0.7)
    axes.set_aspect("equal")
    axes.set_xlabel("false acceptance of spoofed trials, %", fontsize=LABEL_SIZE)
    axes.set_ylabel("false rejection of bona fide trials, %", fontsize=LABEL_SIZE)


def _probit(rates: ArrayLike) -> NDArray[np.float64]:
    """Returns normal deviates; rates of 0 and 1 lie outside of every plot."""
    return np.asarray(ndtri(np.clip(rates, 1e-9, 1 - 1e-9)))


def _draw_recipe(axes: Axes, line: pd.DataFrame, place: int, num_recipes: int) -> Artist:
    colour = SYSTEM_COLOURS[place % len(SYSTEM_COLOURS)]
    (curve,) = axes.plot(
        line["epoch"],
        line["eer_percent"],
        color=colour,
        # Recipes that take the same steps have the same line: the later, thinner one leaves both visible.
        linewidth=max(5 - 2.5 * place, 1.5) if num_recipes > 1 else 2,
        marker=MARKERS[place % len(MARKERS)],
        markersize=5,
    )
    by_epoch = line.set_index("epoch")["eer_percent"]
    for epoch in line.loc[line["is_chosen"], "epoch"]:
        eer_percent = by_epoch[epoch]
        axes.plot(epoch, eer_percent, "o", markersize=RING_SIZE, mfc="none", mec=colour, mew=2.2, zorder=6)
        axes.annotate(
            f"{eer_percent:.2f}",
            (epoch, eer_percent),
            xytext=_place_label(axes, by_epoch, epoch),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=TICK_SIZE,
            color=colour,
            fontweight="bold",
            bbox=PLAIN_BOX,
            zorder=2.3,  # over curves, under the axes
        )
    return curve


def _place_label(axes: Axes, by_epoch: pd.Series, epoch: int) -> tuple[float, float]:
    """Returns where the number of an epoch stands clear of its curve and of others, in points from its ring."""
    at = by_epoch[epoch]
    before, after = by_epoch.get(epoch - 1, at), by_epoch.get(epoch + 1, at)
    side = 1 if before + after <= 2 * at or at < LEAST_SHARE * axes.get_ylim()[1] else -1
    others = [text for text in axes.texts if isinstance(text, Annotation) and abs(text.xy[0] - epoch) < 2]
    if any(text.xyann[1] * side > 0 for text in others):
        side = -side
    # On a slope, above the lower neighbour or below the higher one.
    return 14.0 * side * float(np.sign(before - after)), 17.0 * side


def _frame(axes: Axes, is_lowest: bool, is_first: bool) -> None:
    if is_lowest:
        axes.set_xlabel("epoch (from 0); ring: chosen", fontsize=LABEL_SIZE)
        axes.tick_params(labelbottom=True)
    if is_first:
        axes.set_ylabel("EER, %", fontsize=LABEL_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.08)
    draw_grid(axes)
