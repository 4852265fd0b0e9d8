"""Tables that the doors print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from sls.data.corpora.corpus import DEMO_CORPUS, PUBLISHED_CORPORA, SYNTHETIC_NOTE
from sls.data.corpora.inventory import TrackInventory
from sls.data.loading.trial_lists import TrialList
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.measures import FRACTION, Measure, format_interval, format_number
from sls.engine.evaluation.results import Evaluation
from sls.engine.scoring.partial_scores import WHOLE, Shard
from sls.tracking.registry.checkpoints import ModelSource

if TYPE_CHECKING:
    from sls.tracking.registry.versions import RegisteredVersion
    from sls.tracking.scoring.one_recording import ScoredRecording
    from sls.tracking.scoring.scoring_run import ScoredList


class Shown(NamedTuple):
    """How a metric is shown."""

    heading: str
    form: str


SHOWN_METRICS = {"eer_percent": Shown("EER %", "{:.2f}"), "min_tdcf": Shown("min t-DCF", "{:.4f}")}


COMPARED_MEASURES = ("eer", "min_tdcf", "min_tdcf_legacy")


def evaluation_table(evaluation: Evaluation, scores: str) -> Table:
    """One evaluation: a line for each metric, with its 95 % intervals."""
    table = Table(title=_title(evaluation.track, evaluation.subset, evaluation.corpus), caption=scores)
    table.add_column("metric")
    _add_value_columns(table, evaluation)
    for measure in evaluation.measures:
        table.add_row(*_measure_cells(measure))
    table.add_row("bona fide trials", str(evaluation.num_bonafide))
    table.add_row("spoofed trials", str(evaluation.num_spoof))
    return table


def scoring_summary(scored: ScoredList, trials: TrialList, model: ModelSource, shard: Shard) -> str:
    """What a scoring run did: trials, rate, and where the time went."""
    summary = scored.summary
    what = f"{len(trials.trials)} trials of {trials.name} ({trials.corpus}) with {model.uri}"
    if summary is None:
        return f"Already scored, with the same settings: {what}: {scored.path}; force=true scores anew"
    times = summary.times
    if shard == WHOLE:
        lines = [f"Scored {what}: {scored.path}"]
    else:
        lines = [
            f"Scored shard {shard} of {what}.",
            f"When all shards are scored: mlflow run . -e join -P output={scored.path}",
        ]
    kept = f" ({summary.num_kept} more were there)" if summary.num_kept else ""
    lines += [
        f"{summary.num_trials} scored{kept}, {len(summary.failures)} failures, "
        f"{summary.utterances_per_second:.1f} utterances/s, {summary.duration_s:.1f} s; "
        f"over all processes: wait {times.wait_s:.1f} s, compute {times.compute_s:.1f} s; "
        f"over their workers: read {times.read_s:.1f} s, decode {times.decode_s:.1f} s"
    ]
    return "\n".join(lines)


def recording_table(scored: ScoredRecording) -> Table:
    """One recording: its score, the decision if there is one, its most suspicious window, the layer weights."""
    table = Table(title=scored.recording, caption=scored.model, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("score, log P(bona fide)", f"{scored.score:.9g}")
    table.add_row("duration, s", f"{scored.duration_s:.2f}")
    if len(scored.windows) > 1:
        lowest = scored.lowest
        table.add_row("windows", f"{len(scored.windows)}, {scored.combination}")
        where = f"{lowest.score:.6g} at {lowest.start_s:.2f} to {lowest.end_s:.2f} s"
        table.add_row("most suspicious window", where)
    for name, value in scored.decision.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    for layer, weight in enumerate(scored.layer_weights, start=1):
        table.add_row(f"weight of layer {layer}", f"{weight:.4f}")
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Two or more systems on the trials that they share: EER and min t-DCF with their intervals."""
    title = _title(comparison.track, comparison.subset, comparison.corpus)
    table = Table(title=f"{title}, {comparison.num_common} common trials")
    for heading in ("measure", "system"):
        table.add_column(heading)
    _add_value_columns(table, comparison.evaluations[0])
    for measure in comparison.evaluations[0].measures:
        if measure.name not in COMPARED_MEASURES:
            continue
        for evaluation in comparison.evaluations:
            title, *numbers = _measure_cells(
                next(item for item in evaluation.measures if item.name == measure.name)
            )
            table.add_row(title, evaluation.system, *numbers)
        table.add_section()
    return table


def inventory_tables(inventories: Sequence[TrackInventory]) -> list[Table]:
    """What there is of each track: its files, and where these were looked into, what they hold."""
    files = Table(title="What lies under data_root")
    recordings = Table(title="Recordings that were looked into")
    _add_columns(files, "track", "trials", "present", "missing", "extra", "unreadable", "keyed")
    _add_columns(recordings, "track", "hours", "shortest s", "longest s", "rates Hz (recordings)")
    for item in inventories:
        audio, key = item.audio, item.key
        unreadable = str(len(audio.unreadable)) if audio.checked else "-"
        keyed = "-" if key is None else str(key.counts["trials"] - key.unlisted)
        counts = (item.trials, audio.present, audio.missing, audio.extra)
        files.add_row(item.track, *map(str, counts), unreadable, keyed)
        if audio.checked:
            hours = None if audio.total_duration_s is None else audio.total_duration_s / 3600
            lengths = (_decimal(value) for value in (hours, audio.shortest_s, audio.longest_s))
            rates = ", ".join(
                f"{rate} ({audio.sample_rates_hz[rate]})" for rate in sorted(audio.sample_rates_hz)
            )
            recordings.add_row(item.track, *lengths, rates or "-")
    return [files, recordings] if recordings.rows else [files]


def inventory_lines(inventories: Sequence[TrackInventory], named: Sequence[str]) -> list[str]:
    """What stands against each track in a line; of one that is absent and was not `named`, that alone."""
    lines = []
    for item in inventories:
        if item.is_absent and item.track not in named:
            lines.append(f"{item.track}: nothing of it is there")
            continue
        lines += [
            f"{item.track}: {problem.removeprefix(f'track {item.track}: ')}" for problem in item.problems
        ]
    return lines


def _add_columns(table: Table, first: str, *numbers: str) -> None:
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right")


def _add_value_columns(table: Table, evaluation: Evaluation) -> None:
    intervals = evaluation.measures[0].intervals
    for heading in ("value", *(f"{100 * interval.level:g} % over {interval.over}" for interval in intervals)):
        table.add_column(heading, justify="right")


def _measure_cells(measure: Measure) -> list[str]:
    """Returns a measure's title, its value and its intervals."""
    return [
        f"{measure.title} %" if measure.unit == FRACTION else measure.title,
        format_number(measure.value, measure.unit, digits=4),
        *(format_interval(interval, measure.unit) for interval in measure.intervals),
    ]


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _title(track: str, subset: str, corpus: str) -> str:
    note = SYNTHETIC_NOTE if corpus == DEMO_CORPUS else corpus
    return f"{track}, {subset}" if corpus == PUBLISHED_CORPORA else f"{track}, {subset} ({note})"


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
