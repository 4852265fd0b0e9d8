"""Reports: a page for people, the same numbers as JSON, and every figure as a picture of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.results import Evaluation
from sls.files import write_whole
from sls.reports.figure_style import describe, to_png
from sls.reports.figures import comparison_figures, evaluation_figures
from sls.reports.page import render_det, render_image, render_note, render_page, render_section
from sls.reports.tables import (
    det_data,
    explain_intervals,
    render_breakdown,
    render_provenance,
    tabulate_confusion,
    tabulate_differences,
    tabulate_disagreements,
    tabulate_measures,
    tabulate_systems,
)

REPORT_DIRECTORY = "report"
PAGE_NAME, DATA_NAME = "report.html", "report.json"


def run_report(run_id: str) -> str:
    """Returns where the page of a run's report is."""
    return f"runs:/{run_id}/{REPORT_DIRECTORY}/{PAGE_NAME}"


def write_evaluation_report(evaluation: Evaluation, directory: str | Path) -> list[Path]:
    """Writes the report of an evaluation: report.html, report.json and one PNG for each figure.

    Args:
        evaluation: What `sls.engine.evaluation.evaluation.evaluate` returned.
        directory: Where to write; made if need be.

    Returns:
        The files, the page first.
    """
    figures = evaluation_figures(evaluation)
    pictures = {name: to_png(figure) for name, figure in figures.items()}
    note = describe(evaluation.track, evaluation.subset, evaluation.corpus)
    sections = [
        *(render_note(warning) for warning in evaluation.warnings),
        render_section(
            "Results",
            tabulate_measures(evaluation),
            render_note(evaluation.scope, "scope") if evaluation.scope else "",
            explain_intervals(evaluation),
        ),
        render_section("Decisions at the EER threshold", tabulate_confusion(evaluation)),
        render_section("DET curve", render_det(det_data([evaluation]))),
        render_section("Scores", render_image(pictures["scores"], "score histograms")),
        *(render_breakdown(breakdown, pictures) for breakdown in evaluation.breakdowns),
        render_section("Provenance", render_provenance(evaluation.provenance)),
    ]
    trials = f"{evaluation.num_bonafide:,} bona fide and {evaluation.num_spoof:,} spoofed trials"
    page = render_page(f"{evaluation.system} on {note}", trials, evaluation.corpus, sections)
    return _write(Path(directory), page, evaluation.to_dict(), pictures)


def write_evaluation_data(evaluation: Evaluation, directory: str | Path) -> Path:
    """Writes the numbers of an evaluation alone, the report.json of its report."""
    return _write_data(Path(directory), evaluation.to_dict())


def write_comparison_report(comparison: Comparison, directory: str | Path) -> list[Path]:
    """Writes the report of a comparison: report.html, report.json and one PNG for each figure.

    Args:
        comparison: What `sls.engine.evaluation.comparison.compare` returned.
        directory: Where to write; made if need be.

    Returns:
        The files, the page first.
    """
    pictures = {name: to_png(figure) for name, figure in comparison_figures(comparison).items()}
    note = describe(comparison.track, comparison.subset, comparison.corpus)
    systems = [evaluation.system for evaluation in comparison.evaluations]
    warnings = [
        f"{evaluation.system}: {text}"
        for evaluation in comparison.evaluations
        for text in evaluation.warnings
    ]
    sections = [
        *(render_note(text) for text in (*comparison.notes, *warnings)),
        *(render_note(difference.verdict, "verdict") for difference in comparison.differences),
        render_section("Results", tabulate_systems(comparison.evaluations)),
        render_section("DET curves", render_det(det_data(comparison.evaluations))),
        render_section(
            "Differences",
            tabulate_differences(comparison.differences),
            *(render_image(png, name) for name, png in pictures.items() if name.endswith("differences")),
        ),
        render_section("Trials on which the systems disagree most", tabulate_disagreements(comparison)),
    ]
    lead = f"{comparison.num_common:,} common trials"
    page = render_page(f"{', '.join(systems)} on {note}", lead, comparison.corpus, sections)
    return _write(Path(directory), page, comparison.to_dict(), pictures)


def _write(
    directory: Path, page: str, content: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> list[Path]:
    data = _write_data(directory, content)
    written = [_write_bytes(directory / PAGE_NAME, page.encode()), data]
    return written + [_write_bytes(directory / f"{name}.png", png) for name, png in pictures.items()]


def _write_data(directory: Path, content: Mapping[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return _write_bytes(
        directory / DATA_NAME, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    )


def _write_bytes(path: Path, content: bytes) -> Path:
    with write_whole(path) as temporary:
        temporary.write_bytes(content)
    return path
