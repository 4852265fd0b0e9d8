"""What an experiment ends with: tables of its recipes and seeds, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from textwrap import wrap
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from rich.table import Table

from entrypoints.console_tables import make_table
from sls.data.corpora.corpus import DEMO_CORPUS, SYNTHETIC_NOTE
from sls.tracking.registry.stages import find_champion

if TYPE_CHECKING:  # they load PyTorch
    from sls.tracking.registry.versions import RegisteredVersion
    from sls.tracking.training.study import TrainedSeed

SHOWN_METRICS = {"eer_percent": ("EER %", "{:.2f}"), "min_tdcf": ("min t-DCF", "{:.4f}")}
"""Heading and form of the metrics of a table of recipes."""


def recipe_table(
    corpus: str,
    tracks: Sequence[str],
    versions: Sequence[RegisteredVersion],
    metrics: Mapping[str, Sequence[Mapping[str, float]]],
    champion: str,
) -> Table:
    """Recipe by track: EER in percent, and min t-DCF where there is one; over several seeds, mean and spread.

    `metrics` are by recipe those of the evaluations of each seed, such as `LA/eer_percent`. What only one seed was
    evaluated on, as dev is for its calibration, is told of that seed alone.
    """
    columns = {
        # A name is broken at its hyphens rather than cut, where a terminal has no more than 80 columns.
        f"{track}/{name}": ("\n".join([*wrap(track, 8, break_long_words=False), heading]), form)
        for track in tracks
        for name, (heading, form) in SHOWN_METRICS.items()
        if any(f"{track}/{name}" in found for found in metrics[versions[0].recipe])
    }
    rows = []
    for version in versions:
        name = f"{version.recipe} (champion)" if version.version == champion else version.recipe
        of_seeds = metrics[version.recipe]
        cells = [
            _mean_cell([found[metric] for found in of_seeds if metric in found], form)
            for metric, (_, form) in columns.items()
        ]
        rows.append([name, version.version, version.epoch, *cells])
    headings = [heading for heading, _ in columns.values()]
    notes = [SYNTHETIC_NOTE] if corpus == DEMO_CORPUS else []
    num_seeds = max(map(len, metrics.values()))
    if num_seeds > 1:
        notes.append(
            f"mean ± standard deviation over {num_seeds} seeds; version and epoch of the chosen seed"
        )
    names = ("recipe", "version", "epoch")
    return make_table(f"Recipe by track ({corpus})", names, headings, rows, "; ".join(notes) or None)


def seeds_table(recipe: str, corpus: str, trained: Sequence[TrainedSeed], best: TrainedSeed) -> Table:
    """What training measured of each seed of a recipe, at its best epoch, and the mean and spread of it."""
    forms = {name: "{:.2f}" if name.endswith("_percent") else "{:.6f}" for name in best.metrics}
    rows = [
        [
            f"{item.seed} (best)" if item is best else item.seed,
            str(item.model.epoch),
            *(form.format(item.metrics[name]) for name, form in forms.items()),
        ]
        for item in trained
    ]
    means = [_mean_cell([item.metrics[name] for item in trained], form) for name, form in forms.items()]
    note = SYNTHETIC_NOTE if corpus == DEMO_CORPUS else None
    rows.append(["all", "", *means])
    return make_table(f"{recipe} by seed ({corpus})", ["seed"], ["epoch", *forms], rows, note)


def _mean_cell(values: Sequence[float], form: str) -> str:
    """Returns a value, or mean and standard deviation of several; nothing where there is none."""
    if len(values) < 2:
        return "".join(map(form.format, values))
    return f"{form.format(fmean(values))} ± {form.format(stdev(values))}"


def next_commands(client: MlflowClient, link: str) -> str:
    """How to compare the recipes, by a link into the UI, and how to serve the champion if there is one."""
    # Where a tracking server is up, its UI is too.
    before = "" if client.tracking_uri.startswith("http") else "make ui, then "
    lines = ["", f"Compare the recipes: {before}{link}"]
    if find_champion(client):
        serve = "mlflow models serve -m models:/xlsr-sls@champion --env-manager local -p 5001"
        lines.append(f"Serve the champion:  {serve}")
    return "\n".join(lines)
