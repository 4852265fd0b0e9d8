"""What all figures share: size, colours, titles, and the label of a synthetic corpus."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sls.data.corpora.corpus import DEMO_CORPUS, PUBLISHED_CORPORA

BONAFIDE_COLOUR, SPOOF_COLOUR = "#0072B2", "#D55E00"
SYSTEM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's palette, which colour-blind readers can tell apart, and a brown."""
GRID_COLOUR = "#d8d8d8"
MUTED_COLOUR = "#666666"
WARNING_COLOUR = "#B00020"
DPI = 160
PLAIN_BOX = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 14, 12, 10.5


def new_figure(width: float = 8.0, height: float = 5.6) -> tuple[Figure, Axes]:
    """Returns an empty figure of a size in inches, outside of pyplot's global state, and its axes."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Sets the size of the ticks, and leaves out the frame where there are none."""
    axes.tick_params(labelsize=TICK_SIZE)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def set_title(figure: Figure, axes: Axes, title: str, subtitle: str, corpus: str) -> None:
    """Puts a title over a figure, with what it shows below, and marks the synthetic corpus across it."""
    axes.set_title(subtitle, fontsize=LABEL_SIZE - 1, color=MUTED_COLOUR, loc="left", pad=8)
    heading = title_text(title, corpus)
    figure.suptitle(heading, fontsize=TITLE_SIZE, fontweight="bold", x=0.01, ha="left")
    mark_synthetic(axes, corpus)


def title_text(title: str, corpus: str) -> str:
    """Returns a title that says where the corpus is synthetic."""
    return f"{title} (synthetic demo corpus)" if corpus == DEMO_CORPUS else title


def mark_synthetic(axes: Axes, corpus: str) -> None:
    """Marks axes on which the synthetic corpus is drawn."""
    if corpus != DEMO_CORPUS:
        return
    mark: dict[str, Any] = {
        "fontsize": 44,
        "fontweight": "bold",
        "color": WARNING_COLOUR,
        "alpha": 0.13,
        "zorder": 10,
    }
    centre: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, "SYNTHETIC", rotation=18, **mark, **centre)


def label_value(value: str) -> str:
    """Returns a value of a key as a label; the keys write `-` for nothing."""
    return "(none)" if value == "-" else value


def describe(track: str, subset: str, corpus: str) -> str:
    """Returns which data a figure shows."""
    parts = [track] if subset in ("", "all") else [track, f"{subset} subset"]
    named = corpus if corpus not in ("", DEMO_CORPUS, PUBLISHED_CORPORA) else ""
    return ", ".join([*parts, named] if named else parts)


def to_png(figure: Figure) -> bytes:
    """Returns a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()
