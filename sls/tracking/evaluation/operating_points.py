"""Operating points as a tracked run: scores of several tracks or systems, each at the thresholds of the others."""

from collections.abc import Mapping
from dataclasses import asdict, replace

from sls.data.corpora.corpus import Corpus
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.groups import halve_by_speaker
from sls.engine.evaluation.transfer_results import TransferReport
from sls.engine.evaluation.transfers import Placed, transfer
from sls.metrics.dcf import DetectionCosts
from sls.reports.report import REPORT_DIRECTORY, render_report
from sls.tracking.evaluation.evaluation_run import EvaluationBasis, EvaluationRequest
from sls.tracking.evaluation.score_sources import ScoreSource
from sls.tracking.run import TrackedRun

SPEAKER_SPLIT = "speaker"


def join_placed(
    run: TrackedRun,
    placed: Mapping[str, Mapping[str, ScoreSource]],
    corpus: Corpus,
    request: EvaluationRequest,
    split: str = "",
) -> dict[str, dict[str, JoinedScores]]:
    """Reads the scores of systems on tracks, records which they are, and joins them with the keys.

    Args:
        run: The run to record on.
        placed: By track, then by system.
        corpus: The tracks and their keys.
        request: What is taken of each track; its own `track` does not count.
        split: `speaker` makes two of each track, with other speakers; empty for none.

    Returns:
        The trials of the subset, by track or half of one, then by system.

    Raises:
        FileNotFoundError: a key is missing.
        ValueError: scores and key do not cover the same trials, one of them is malformed, or there are no speakers.
    """
    joined: dict[str, dict[str, JoinedScores]] = {}
    for track, systems in placed.items():
        basis = EvaluationBasis(run, corpus, replace(request, track=track), is_one_of_several=True)
        of_track = {
            name: basis.join(source, name).select_subset(basis.subset) for name, source in systems.items()
        }
        if split != SPEAKER_SPLIT:
            joined[track] = of_track
            continue
        halves = {name: halve_by_speaker(found) for name, found in of_track.items()}
        for place in (0, 1):
            joined[f"{track} half {place + 1}"] = {name: half[place] for name, half in halves.items()}
    return joined


def track_operating_points(
    run: TrackedRun, joined: Placed, corpus: Corpus, subset: str, costs: DetectionCosts
) -> TransferReport:
    """Judges every system at the operating points of every track, and records the report on a run.

    Args:
        run: The run to record on.
        joined: From `join_placed`.
        corpus: Which data this is.
        subset: Of the tracks; empty for each one's own.
        costs: Prior and costs of a decision.

    Raises:
        ValueError: what `transfer` raises.
    """
    report = transfer(joined, corpus.name, subset, costs)
    run.set_tags(
        {
            **asdict(costs),
            "tracks": report.track,
            "systems": ", ".join(next(iter(joined.values()))),
            "verdict": " ".join(report.verdicts),
        }
    )
    run.suggest_name(f"operating_point {report.track}")
    is_one = len(report.matrices) == 1
    for matrix in report.matrices:
        ending = "" if is_one else f".{matrix.title}"
        run.log_metrics({f"{name}{ending}": value for name, value in matrix.metrics()})
    run.log_contents(render_report(report), REPORT_DIRECTORY)
    return report
