"""Tables that the doors print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from sls.data.demo_corpus import SYNTHETIC_NOTE
from sls.engine.evaluation import Evaluation
from sls.tracking.registry import RegisteredVersion


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
    note = SYNTHETIC_NOTE if corpus == "demo" else None
    table = Table(title=f"EER % by recipe and track ({corpus})", caption=note)
    table.add_column("recipe")
    table.add_column("version")
    table.add_column("epoch", justify="right")
    for track in tracks:
        table.add_column(track, justify="right")
    for version in versions:
        cells = [_cell(metrics[version.recipe][track]) for track in tracks]
        name = f"{version.recipe} (champion)" if version.version == champion else version.recipe
        table.add_row(name, version.uri, version.epoch, *cells)
    return table


def _cell(metrics: Mapping[str, float]) -> str:
    cell = f"{metrics['eer_percent']:.2f}"
    if "min_tdcf" in metrics:
        cell += f" (min t-DCF {metrics['min_tdcf']:.4f})"
    return cell
