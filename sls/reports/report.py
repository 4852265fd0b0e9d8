"""Reports: a page for people, the same numbers as JSON, and every figure as a picture of its own."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from sls.data.corpora.corpus import DEMO_CORPUS, SYNTHETIC_NOTE
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.results import Breakdown, Evaluation
from sls.engine.evaluation.transfer_results import (
    CALIBRATIONS,
    HALF_TOTAL,
    METHODS,
    SHOWN_METHODS,
    TransferReport,
)
from sls.engine.robustness.results import SHOWN_FLIPS, RobustnessReport
from sls.reports.breakdown_figures import robustness_figure
from sls.reports.figure_style import describe, title_text, to_png
from sls.reports.figures import comparison_figures, evaluation_figures, locate_det_points, transfer_figures
from sls.reports.robustness_tables import tabulate_conditions, tabulate_flips
from sls.reports.tables import (
    Table,
    cross_breakdown,
    explain_intervals,
    tabulate_breakdown,
    tabulate_confusion,
    tabulate_differences,
    tabulate_disagreements,
    tabulate_measures,
    tabulate_provenance,
)
from sls.reports.transfer_tables import cross_transfers, list_transfers

REPORT_DIRECTORY = "report"
PAGE_NAME, DATA_NAME = "report.html", "report.json"
MAX_FLAT_ROWS = 40
"""A longer table scrolls within the page."""

Result = Evaluation | Comparison | TransferReport | RobustnessReport


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[str] = ()
    """Names of figures."""


def run_report(run_id: str) -> str:
    """Returns where the page of a run's report is."""
    return f"runs:/{run_id}/{REPORT_DIRECTORY}/{PAGE_NAME}"


def render_report(found: Result) -> dict[str, bytes]:
    """Returns the report of a result: report.html, report.json and one PNG for each figure, by name."""
    evaluations: Sequence[Evaluation] = ()
    what = ""
    if isinstance(found, Evaluation):
        evaluations, figures = [found], evaluation_figures(found)
        texts = _describe_evaluation(found)
    elif isinstance(found, Comparison):
        evaluations, figures = found.evaluations, comparison_figures(found)
        texts = _describe_comparison(found, figures)
    elif isinstance(found, RobustnessReport):
        what = f"{found.system} under conditions"
        figures = {"conditions": robustness_figure(found)} if found.held else {}
        texts = _describe_robustness(found)
    else:
        what = "Operating points"
        figures = transfer_figures(found)
        texts = _describe_transfers(found)
    pictures = {name: to_png(figure) for name, figure in figures.items()}
    what = what or ", ".join(evaluation.system for evaluation in evaluations)
    page = _template().render(
        texts,
        title=title_text(f"{what} on {describe(found.track, found.subset, found.corpus)}", found.corpus),
        synthetic=SYNTHETIC_NOTE if found.corpus == DEMO_CORPUS else "",
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()},
        det_points=locate_det_points(figures["det"], evaluations) if evaluations else None,
        max_flat_rows=MAX_FLAT_ROWS,
    )
    files = {f"{name}.png": png for name, png in pictures.items()}
    return {PAGE_NAME: page.encode(errors="backslashreplace"), **render_data(found), **files}


def render_data(found: Result) -> dict[str, bytes]:
    """Returns the numbers of a result alone, the report.json of its report."""
    return {DATA_NAME: (json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n").encode()}


def _describe_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Returns what the page says of an evaluation."""
    about = [text for text in (evaluation.scope, explain_intervals(evaluation)) if text]
    sections = [
        Section("Results", about, [tabulate_measures([evaluation])]),
        Section("Decisions at the EER threshold", tables=[tabulate_confusion(evaluation)]),
        Section("DET curve", pictures=["det"]),
        Section("Scores", pictures=["scores"]),
        *map(_show_breakdown, evaluation.breakdowns),
        Section("Provenance", tables=[tabulate_provenance(evaluation.provenance)]),
    ]
    lead = f"{evaluation.num_bonafide:,} bona fide and {evaluation.num_spoof:,} spoofed trials"
    return {"lead": lead, "notes": evaluation.warnings, "verdicts": (), "sections": sections}


def _describe_comparison(comparison: Comparison, figures: Iterable[str]) -> dict[str, Any]:
    """Returns what the page says of a comparison, with its figures of differences."""
    pictures = [name for name in figures if name.endswith("differences")]
    ranks = "Percentage of all trials that score lower, since two systems have no common scale."
    sections = [
        Section("Results", tables=[tabulate_measures(comparison.evaluations)]),
        Section("DET curves", pictures=["det"]),
        Section("Differences", tables=[tabulate_differences(comparison.differences)], pictures=pictures),
        Section("Trials on which the systems disagree most", [ranks], [tabulate_disagreements(comparison)]),
    ]
    warnings = [f"{found.system}: {text}" for found in comparison.evaluations for text in found.warnings]
    return {
        "lead": f"{comparison.num_common:,} common trials",
        "notes": [*comparison.notes, *warnings],
        "verdicts": [difference.verdict for difference in comparison.differences],
        "sections": sections,
    }


def _describe_transfers(report: TransferReport) -> dict[str, Any]:
    """Returns what the page says of operating points that were set elsewhere."""
    costs = report.costs
    sections = []
    for number, matrix in enumerate(report.matrices, start=1):
        for method, called in METHODS.items():
            measures = [HALF_TOTAL, "act_dcf", *(["cllr"] if method in CALIBRATIONS else [])]
            tables = [cross_transfers(matrix, method, measure) for measure in measures]
            pictures = [f"{method}_{number}"] if method in SHOWN_METHODS else []
            sections.append(Section(f"{matrix.title}: {called} of each source", (), tables, pictures))
    told = (
        "Rows are where the operating point was set, columns where it decides; where both are the same, it was set "
        "on these very trials. Intervals take the operating point as given, and resample the target."
    )
    lead = (
        f"Decisions at a prior of {costs.spoof_prior:g} for spoof, {costs.miss_cost:g} for a miss and "
        f"{costs.false_alarm_cost:g} for a false alarm. {told}"
    )
    everything = Section("All measures, with intervals", tables=[list_transfers(report)])
    return {
        "lead": lead,
        "notes": report.notes,
        "verdicts": report.verdicts,
        "sections": [*sections, everything],
    }


def _describe_robustness(report: RobustnessReport) -> dict[str, Any]:
    """Returns what the page says of a system under conditions."""
    lead = (
        f"The same {report.num_bonafide:,} bona fide and {report.num_spoof:,} spoofed trials, clean and under each "
        "condition. Differences are in points of the EER, held pair by pair. Miss and false alarm are at "
        f"{report.threshold:.6g}, the threshold of the clean EER, which is what a deployed system would keep."
    )
    furthest = (
        f"Decided otherwise than clean at that threshold: of each condition the {SHOWN_FLIPS} that moved most. "
        "flips.csv beside this page has more."
    )
    pictures = ["conditions"] if report.held else []
    sections = [
        Section("Conditions, the worst first", (), [tabulate_conditions(report)], pictures),
        Section("Trials that flip", [furthest], [tabulate_flips(report)]),
    ]
    return {"lead": lead, "notes": report.notes, "verdicts": report.verdicts, "sections": sections}


def _show_breakdown(breakdown: Breakdown) -> Section:
    """Returns the section of a breakdown: a table with intervals, or heat maps."""
    title = f"By {breakdown.title}"
    if len(breakdown.fields) > 1:
        tables = [cross_breakdown(breakdown, measure) for measure in breakdown.crossed_measures]
        return Section(title, tables=tables)
    selected = (
        "spoofed trials, against all bona fide ones"
        if breakdown.is_spoof_only[0]
        else "trials of both classes"
    )
    texts = [f"{breakdown.title} selects {selected}"]
    return Section(title, texts, [tabulate_breakdown(breakdown)], [f"eer_by_{breakdown.name}"])


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("page.html")
