"""What the doors print of scores, of their evaluation and of data: tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table

from sls.data.audio.warnings import count_warnings
from sls.data.corpora.corpus import DEMO_CORPUS, PUBLISHED_CORPORA, SYNTHETIC_NOTE
from sls.data.corpora.inventory import TrackInventory
from sls.data.loading.trial_lists import TrialList
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.results import Evaluation
from sls.engine.evaluation.transfer_results import (
    HALF_TOTAL,
    METHODS,
    SHOWN_METHODS,
    TransferReport,
    measure_of,
)
from sls.engine.robustness.results import RobustnessReport
from sls.engine.scoring.partial_scores import WHOLE, Shard
from sls.metrics.operating_points import LOGISTIC_POINT
from sls.quotation import count_of, make_visible
from sls.reports import tables as reports
from sls.reports.robustness_tables import SHORT_TABLE, tabulate_conditions
from sls.reports.tables import tabulate_measures, text_of
from sls.reports.transfer_tables import cross_transfers
from sls.tracking.registry.checkpoints import ModelSource

if TYPE_CHECKING:
    from sls.tracking.scoring.one_recording import ScoredRecording
    from sls.tracking.scoring.scoring_run import ScoredList


_EXTRA_NOTE = "extra: recordings beside those of the list, which names them not; they are left alone"
COMPARED_MEASURES = ("eer", "min_tdcf", "min_tdcf_legacy")


class NumberTable(Table):
    """A table that lies on its side where a terminal is too narrow for it, rather than cut its numbers."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Renders it, as rich asks for."""
        upright = list(super().__rich_console__(console, options))
        on_side = Table(title=self.title, caption=self.caption)
        names, *others = ([*column.cells] for column in self.columns)
        for heading in (str(self.columns[0].header), *names):
            on_side.add_column(heading, justify="right" if on_side.columns else "left")
        for column, cells in zip(self.columns[1:], others, strict=True):
            on_side.add_row(str(column.header).replace("-\n", "-").replace("\n", " "), *cells)
        turned = list(on_side.__rich_console__(console, options))
        yield from turned if _is_cut(upright) and not _is_cut(turned) else upright


def _is_cut(rendered: Iterable[object]) -> bool:
    return any("…" in segment.text for segment in rendered if isinstance(segment, Segment))


def evaluation_table(evaluation: Evaluation, scores: str) -> Table:
    """One evaluation: a line for each metric, with its 95 % intervals."""
    return _show(tabulate_measures([evaluation]), _title(evaluation), caption=make_visible(scores))


def comparison_table(comparison: Comparison) -> Table:
    """Two or more systems on the trials that they share: EER and min t-DCF with their intervals."""
    measures = tabulate_measures(comparison.evaluations, COMPARED_MEASURES)
    title = f"{_title(comparison)}, {comparison.num_common:,} common trials"
    return _show(measures, title, group_size=len(comparison.evaluations))


def transfer_tables(report: TransferReport) -> Iterator[Table]:
    """What each operating point costs elsewhere: errors at EER thresholds, actual cost by calibrations."""
    caption = SYNTHETIC_NOTE if report.corpus == DEMO_CORPUS else None
    for matrix in report.matrices:
        for method in SHOWN_METHODS:
            table = cross_transfers(matrix, method, measure_of(method))
            yield _show(table, f"{matrix.title}, {METHODS[method]} of each row", caption)


def robustness_table(report: RobustnessReport) -> Table:
    """What each condition costs, the worst first: errors at the threshold of the clean EER, which is the last row."""
    title = f"{_title(report)}, {report.system}: {report.num_bonafide + report.num_spoof:,} trials"
    table = tabulate_conditions(report)
    short = [row[:SHORT_TABLE] for row in table.rows]
    return _show(reports.Table(table.columns[:SHORT_TABLE], short), title)


def decision_table(report: TransferReport) -> Table:
    """What the decisions of each recipe get wrong on each track, by the calibration that it is served with."""
    source, *tracks = (ends.name for ends in report.matrices[0].ends)
    rows = []
    for matrix in report.matrices:
        table = cross_transfers(matrix, LOGISTIC_POINT, HALF_TOTAL)
        rows.append([matrix.title, *(text_of(cell) for cell in table.rows[0][2:])])
    headings = [f"{track}\nmiss / false alarm %" for track in tracks]
    costs = report.costs
    note = f"prior {costs.spoof_prior:g} of spoof, costs {costs.miss_cost:g} and {costs.false_alarm_cost:g}"
    note += f"; {SYNTHETIC_NOTE}" if report.corpus == DEMO_CORPUS else ""
    return make_table(f"Decisions by a calibration of {source}", ["recipe"], headings, rows, note)


def scoring_summary(scored: ScoredList, trials: TrialList, model: ModelSource, shard: Shard) -> str:
    """What a scoring run did: trials, rate, and where the time went."""
    summary = scored.summary
    what = f"{count_of(len(trials.trials), 'trial')} of {trials.name} ({trials.corpus}) with {model.uri}"
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
        f"{summary.num_trials} scored{kept}, {count_of(len(summary.failures), 'failure')}, "
        f"{summary.utterances_per_second:.1f} utterances/s, {summary.duration_s:.1f} s; "
        f"over all processes: wait {times.wait_s:.1f} s, compute {times.compute_s:.1f} s; "
        f"over their workers: read {times.read_s:.1f} s, decode {times.decode_s:.1f} s"
    ]
    if summary.warnings:
        first = next(iter(summary.warnings))
        lines += [
            f"{count_of(len(summary.warnings), 'score is', 'scores are')} less sure "
            f"({_counts(count_warnings(summary.warnings.values()))}), the first that of {first} "
            f"({summary.warnings[first]}); the run's artifact warnings.json has all"
        ]
    return "\n".join(lines)


def recording_table(scored: ScoredRecording) -> Table:
    """One recording: its score, the decision if there is one, its most suspicious window, the layer weights."""
    title, caption = make_visible(scored.recording), make_visible(scored.model)
    table = Table(title=title, caption=caption, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("score, log P(bona fide)", f"{scored.score:.9g}")
    table.add_row("heard, s", f"{scored.heard_s:.2f} of {scored.duration_s:.2f}")
    table.add_row("warnings", scored.warnings or "none")
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


def inventory_tables(inventories: Sequence[TrackInventory]) -> list[Table]:
    """What there is of each track: its files, and where these were looked into, what they hold."""
    files, recordings = [], []
    for item in inventories:
        audio, key = item.audio, item.key
        unreadable = str(len(audio.unreadable)) if audio.checked else "-"
        keyed = "-" if key is None else str(key.counts["trials"] - key.unlisted)
        counts = (item.trials, audio.present, audio.missing, audio.extra)
        files.append([item.track, *map(str, counts), unreadable, keyed])
        if audio.checked:
            hours = None if audio.total_duration_s is None else audio.total_duration_s / 3600
            known = (hours, audio.shortest_s, audio.longest_s)
            lengths = ["-" if value is None else f"{value:.2f}" for value in known]
            rates = ", ".join(
                f"{rate} ({audio.sample_rates_hz[rate]})" for rate in sorted(audio.sample_rates_hz)
            )
            recordings.append([item.track, *lengths, rates or "-"])
    of_files = ["trials", "present", "missing", "extra", "unreadable", "keyed"]
    of_recordings = ["hours", "shortest s", "longest s", "rates Hz (recordings)"]
    tables = [make_table("What lies under data_root", ["track"], of_files, files, _EXTRA_NOTE)]
    if recordings:
        tables.append(make_table("Recordings that were looked into", ["track"], of_recordings, recordings))
    return tables


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
        if item.audio.warnings:
            lines.append(
                f"{item.track}: scores of some recordings will be less sure: {_counts(item.audio.warnings)}"
            )
    return lines


def make_table(
    title: str,
    names: Sequence[str],
    numbers: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str | None = None,
) -> Table:
    """A table of rows, whose first columns are names and whose others are numbers."""
    table = NumberTable(title=title, caption=caption)
    for heading in names:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _show(held: reports.Table, title: str, caption: str | None = None, group_size: int = 0) -> Table:
    """A table of a report, with a line after each group of so many rows."""
    table = Table(title=title, caption=caption)
    for heading, is_number in zip(held.columns, held.are_numbers, strict=True):
        table.add_column(heading, justify="right" if is_number else "left")
    for place, row in enumerate(held.rows, start=1):
        ends_group = group_size > 0 and place % group_size == 0
        table.add_row(*map(text_of, row), end_section=ends_group)
    return table


def _counts(warnings: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in warnings.items())


def _title(found: Evaluation | Comparison | RobustnessReport) -> str:
    title = f"{found.track}, {found.subset}"
    note = SYNTHETIC_NOTE if found.corpus == DEMO_CORPUS else found.corpus
    return title if found.corpus == PUBLISHED_CORPORA else f"{title} ({note})"
