"""What the doors that read score files share: their options, what is asked of the files, and how they end."""

from collections.abc import Callable, Iterable, Mapping

from rich.table import Table

from entrypoints.door import console, say
from entrypoints.options import Command, optional_path, parse_boolean, split_list, text_options
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.transfer_results import TransferReport
from sls.engine.robustness.results import RobustnessReport
from sls.reports.report import run_report
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.run import TrackedRun

REQUEST_OPTIONS = {
    "key": "key file or directory [default: found under data_root]",
    "asv_scores": "ASV scores, where the key does not bring them",
    "subset": "eval, progress, hidden or all [default: the track's own, eval]",
    "allow_partial": "true: take the trials that all scores and the key share [default: false]",
    "score_column": "of score files in another form: number (from 1) or name of the column that is the score",
}


def request_options(*names: str) -> Callable[[Command], Command]:
    """Adds `REQUEST_OPTIONS`, or some of them."""
    return text_options({name: REQUEST_OPTIONS[name] for name in names or REQUEST_OPTIONS})


def print_report(
    run: TrackedRun, tables: Iterable[Table], found: Comparison | TransferReport | RobustnessReport
) -> None:
    """Prints tables, what a reader must know, the verdicts, and where the report is."""
    for table in tables:
        console.print(table)
    for text in (*found.notes, *found.verdicts):
        say(text)
    say(f"Report: {run_report(run.run_id)}")


def read_request(track: str, options: Mapping[str, str]) -> EvaluationRequest:
    """Returns what `request_options` say of a track, or of several where it is empty."""
    return EvaluationRequest(
        track,
        options.get("subset", ""),
        optional_path(options.get("key", "")),
        optional_path(options.get("asv_scores", "")),
        parse_boolean("allow_partial", options["allow_partial"]),
        score_column=options["score_column"],
    )


def split_tracks(text: str) -> list[str]:
    """Returns tracks that are separated by commas; raises ValueError where there is none, or one twice."""
    tracks = split_list(text)
    if not tracks or len(set(tracks)) < len(tracks):
        raise ValueError(f"track: found {text or 'nothing'}, expected tracks, each once, such as dev,LA")
    return tracks
