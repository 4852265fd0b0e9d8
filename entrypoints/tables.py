"""Tables that the doors print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from sls.data.corpus import DEMO_CORPUS, SYNTHETIC_NOTE
from sls.engine.evaluation import Evaluation
from sls.tracking.registry import RegisteredVersion


class Shown(NamedTuple):
    """How a metric is shown."""

    heading: str
    form: str


SHOWN_METRICS = {"eer_percent": Shown("EER %", "{:.2f}"), "min_tdcf": Shown("min t-DCF", "{:.4f}")}


def evaluation_table(evaluation: Evaluation, scores: str) -> Table:
    """One evaluation: a line for each metric."""
    table = Table(title=f"{evaluation.track}, {evaluation.subset} ({evaluation.corpus})", caption=scores)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in evaluation.metrics().items():
        table.add_row(name, f"{value:.4f}" if value != int(value) else f"{value:.0f}")
    return table


def recipe_table(
    corpus: str,
    tracks: Sequence[str],
    versions: Sequence[RegisteredVersion],
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    champion: str,
) -> Table:
    """Recipe by track: EER in percent, and min t-DCF where there is one.

    Args:
        corpus: the corpus, named in the title.
        tracks: the columns.
        versions: the rows.
        metrics: by recipe, then by track, the metrics of the evaluation.
        champion: the version that the alias `champion` points at.
    """
    note = SYNTHETIC_NOTE if corpus == DEMO_CORPUS else None
    table = Table(title=f"Recipe by track ({corpus})", caption=note)
    columns = [
        (track, name)
        for track in tracks
        for name in SHOWN_METRICS
        if name in metrics[versions[0].recipe][track]
    ]
    for heading in ("recipe", "version", "epoch"):
        table.add_column(heading, no_wrap=True)
    for track, name in columns:
        table.add_column(f"{track}\n{SHOWN_METRICS[name].heading}", justify="right")
    for version in versions:
        name = f"{version.recipe} (champion)" if version.version == champion else version.recipe
        cells = [
            SHOWN_METRICS[metric].form.format(metrics[version.recipe][track][metric])
            for track, metric in columns
        ]
        table.add_row(name, version.version, version.epoch, *cells)
    return table
