"""What all figures share: size, colours, titles, legends, and the label of a synthetic corpus."""

import io
from collections.abc import Mapping
from textwrap import wrap
from typing import Any, cast

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from sls.data.corpora.corpus import DEMO_CORPUS, PUBLISHED_CORPORA
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.results import Evaluation
from sls.engine.robustness.results import RobustnessReport
from sls.quotation import make_visible

BONAFIDE_COLOUR, SPOOF_COLOUR = "#0072B2", "#D55E00"
SYSTEM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's palette, which colour-blind readers can tell apart, and a brown."""
GRID_COLOUR = "#d8d8d8"
MUTED_COLOUR = "#666666"
WARNING_COLOUR = "#B00020"
DPI = 160
PLAIN_BOX = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 14, 12, 10.5
MAX_LABEL = 40
"""Characters of a line in the label of a row."""


class PlainFigure(Figure):
    """A figure whose text is text: a `$` in the name of a system or a file begins no formula."""

    def draw(self, renderer: Any) -> None:
        """Draws it, as Matplotlib asks for wherever it is shown or kept."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with mpl.rc_context({"text.parse_math": False}):  # for what is made only now, such as labels of ticks
            super().draw(renderer)


def new_figure(width: float = 8.0, height: float = 5.6) -> tuple[Figure, Axes]:
    """Returns an empty figure of a size in inches, outside of pyplot's global state, and its axes."""
    figure, (axes,) = new_panels(width, height, 1, 1)
    return figure, axes


def new_panels(width: float, height: float, num_rows: int, num_columns: int) -> tuple[Figure, list[Axes]]:
    """Returns a figure as `new_figure` does, of several axes with common limits, row by row."""
    figure = PlainFigure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes in panels:
        axes.tick_params(labelsize=TICK_SIZE)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def draw_grid(axes: Axes, which: Any = "both") -> None:
    """Draws the grid of both axes, or of `x` or `y`, behind what is drawn."""
    axes.grid(axis=which, color=GRID_COLOUR, linewidth=0.7)
    axes.set_axisbelow(True)


def draw_legend_below(figure: Figure, handles: Mapping[str, Artist], num_columns: int) -> None:
    """Draws a legend below a figure, of what is drawn by its name."""
    style: dict[str, Any] = {"fontsize": TICK_SIZE, "frameon": False, "loc": "outside lower center"}
    figure.legend(list(handles.values()), list(handles), ncols=num_columns, **style)


def set_title(figure: Figure, axes: Axes, title: str, subtitle: str, corpus: str) -> None:
    """Puts a title over a figure, with what it shows below, and marks the synthetic corpus across it."""
    # Four fifths, since it begins beside the labels of rows.
    shown = _break_title(subtitle, 0.8 * figure.get_figwidth() / (0.5 * (LABEL_SIZE - 1)))
    axes.set_title(shown, fontsize=LABEL_SIZE - 1, color=MUTED_COLOUR, loc="left", pad=8)
    set_heading(figure, title, corpus)
    mark_synthetic(axes, corpus)


def title_figure(
    axes: Axes, what: str, subtitle: str, found: Evaluation | Comparison | RobustnessReport
) -> None:
    """Puts a title over the figure of a result, which says what it shows of which data."""
    title = f"{what}, {describe(found.track, found.subset, found.corpus)}"
    set_title(cast(Figure, axes.figure), axes, title, subtitle, found.corpus)


def set_heading(figure: Figure, title: str, corpus: str) -> None:
    """Puts a title over a figure that says where the corpus is synthetic."""
    heading = _break_title(title_text(title, corpus), figure.get_figwidth() / (0.6 * TITLE_SIZE))
    figure.suptitle(heading, fontsize=TITLE_SIZE, fontweight="bold", x=0.01, ha="left")


def _break_title(title: str, width: float) -> str:
    """Returns a title in lines of a width, in inches for each point of a letter.

    Matplotlib's own `wrap` takes `$` for a formula.
    """
    return "\n".join(wrap(title, int(72 * width)))


def title_text(title: str, corpus: str) -> str:
    """Returns a title that says where the corpus is synthetic."""
    return f"{title} (synthetic demo corpus)" if corpus == DEMO_CORPUS else title


def mark_synthetic(axes: Axes, corpus: str) -> None:
    """Marks axes on which the synthetic corpus is drawn."""
    if corpus != DEMO_CORPUS:
        return
    look: dict[str, Any] = {"fontsize": 44, "fontweight": "bold", "color": WARNING_COLOUR, "alpha": 0.13}
    place: dict[str, Any] = {"ha": "center", "va": "center", "rotation": 18, "zorder": 10}
    axes.text(0.5, 0.5, "SYNTHETIC", transform=axes.transAxes, **look, **place)


def break_label(*parts: str) -> str:
    """Returns the label of a row, which leaves room for what is drawn beside it: two lines for each part at most."""
    if len(label := " ".join(parts)) <= MAX_LABEL:
        return label
    return "\n".join(line for part in parts for line in wrap(part, MAX_LABEL, max_lines=2, placeholder=" …"))


def describe(track: str, subset: str, corpus: str) -> str:
    """Returns which data a figure shows."""
    parts = [track] if subset in ("", "all") else [track, f"{subset} subset"]
    named = make_visible(corpus) if corpus not in ("", DEMO_CORPUS, PUBLISHED_CORPORA) else ""
    return ", ".join([*parts, named] if named else parts)


def to_png(figure: Figure) -> bytes:
    """Returns a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()
