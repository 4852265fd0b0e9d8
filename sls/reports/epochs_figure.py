"""The chart of EER by epoch: a panel for each track, a line for each recipe."""

from __future__ import annotations

from math import ceil

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sls.reports.figure_style import (
    LABEL_SIZE,
    MUTED_COLOUR,
    PLAIN_BOX,
    SYSTEM_COLOURS,
    TICK_SIZE,
    describe,
    draw_grid,
    draw_legend_below,
    mark_synthetic,
    new_panels,
    set_heading,
)

MAX_COLUMNS = 3
PANEL_WIDTH, PANEL_HEIGHT = 4.4, 3.9
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
RING_SIZE = 15
CHANCE_PERCENT = 50


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
    num_columns = min(len(tracks), MAX_COLUMNS)
    num_rows = ceil(len(tracks) / num_columns)
    width, height = max(PANEL_WIDTH * num_columns, 6.0), 1.1 + PANEL_HEIGHT * num_rows
    figure, panels = new_panels(width, height, num_rows, num_columns)
    handles: dict[str, Artist] = {}
    for axes, track in zip(panels, tracks, strict=False):
        axes.set_title(track, fontsize=LABEL_SIZE, loc="left")
        for place, recipe in enumerate(recipes):
            line = table[(table["track"] == track) & (table["recipe"] == recipe)].sort_values("epoch")
            if not line.empty:
                handles[recipe] = _draw_recipe(axes, line, place, len(recipes))
        chance = axes.axhline(CHANCE_PERCENT, color=MUTED_COLOUR, linestyle=":", linewidth=1.2)
        _frame(axes)
        mark_synthetic(axes, corpus)
    for axes in panels[len(tracks) :]:
        axes.set_visible(False)
    panels[0].set_ylim(0, 1.15 * table["eer_percent"].max())
    set_heading(figure, describe("EER by epoch and track", "", corpus), corpus)
    draw_legend_below(figure, {**handles, "chance": chance}, len(handles) + 1)
    return figure


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
    chosen = line[line["is_chosen"]]
    for epoch, eer_percent in zip(chosen["epoch"], chosen["eer_percent"], strict=True):
        axes.plot(epoch, eer_percent, "o", markersize=RING_SIZE, mfc="none", mec=colour, mew=2.2, zorder=6)
        axes.annotate(
            f"{eer_percent:.2f}",
            (epoch, eer_percent),
            # By turns above and below, since two recipes may choose neighbouring epochs.
            xytext=(0, 20 if place % 2 == 0 else -20),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=TICK_SIZE,
            color=colour,
            fontweight="bold",
            bbox=PLAIN_BOX,
        )
    return curve


def _frame(axes: Axes) -> None:
    subplot = axes.get_subplotspec()
    if subplot is None or subplot.is_last_row():
        axes.set_xlabel("epoch (from 0); ring: chosen", fontsize=LABEL_SIZE)
    if subplot is None or subplot.is_first_col():
        axes.set_ylabel("EER, %", fontsize=LABEL_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.08)
    draw_grid(axes)
