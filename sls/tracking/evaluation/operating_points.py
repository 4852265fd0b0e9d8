"""Operating points as a tracked run: scores of several tracks or systems, each at the thresholds of the others."""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace

from sls.data.corpora.corpus import Corpus
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.groups import halve_systems
from sls.engine.evaluation.transfer_results import SHOWN_METHODS, TransferMatrix, TransferReport
from sls.engine.evaluation.transfers import transfer
from sls.metrics.dcf import DetectionCosts
from sls.metrics.operating_points import LOGISTIC_POINT
from sls.reports.report import REPORT_DIRECTORY, render_report
from sls.tracking.evaluation.evaluation_run import EvaluationBasis, EvaluationRequest
from sls.tracking.evaluation.score_sources import ScoreSource
from sls.tracking.names import check_transfers
from sls.tracking.registry.champions import note_costs
from sls.tracking.registry.lineage import refusals_warn
from sls.tracking.registry.parent_run import bear_figures
from sls.tracking.run import TrackedRun
from sls.tracking.tags import (
    COST_ENDING,
    COST_KEY_ENDING,
    COST_SOURCE_ENDING,
    DECISIONS_TAG,
    MODEL_ID_TAG,
    TRAIN_RUN_TAG,
    evaluated_place,
)

SPEAKER_SPLIT = "speaker"
BORNE_MEASURES = re.compile("/(miss_percent|false_alarm_percent|act_dcf)_by_")
"""What a training run bears of decisions: few, since MLflow compares runs by all metrics that they have."""


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
        for number, half in enumerate(halve_systems(of_track), start=1):
            joined[f"{track} half {number}"] = half
    return joined


def track_operating_points(
    run: TrackedRun,
    placed: Mapping[str, Mapping[str, ScoreSource]],
    corpus: Corpus,
    request: EvaluationRequest,
    costs: DetectionCosts | None = None,
    split: str = "",
) -> TransferReport:
    """Judges every system at the operating points of every track, and records the report on a run.

    Decisions at those of the first track, at the costs of ASVspoof 5 and over each track's own subset, stand on the
    training runs and the registered versions of the systems too.

    Args and errors as of `join_placed` and `transfer`; by default the prior and costs are those of ASVspoof 5.
    """
    systems = list(next(iter(placed.values())))
    check_transfers(list(placed) if len(placed) > 1 else systems, systems)
    joined = join_placed(run, placed, corpus, request, split)
    report = transfer(joined, corpus.name, request.subset, costs or DetectionCosts())
    verdict = " ".join(report.verdicts)
    run.set_tags({**asdict(report.costs), "tracks": report.track, "verdict": verdict})
    run.suggest_name(f"operating_point {report.track}")
    is_one = len(report.matrices) == 1
    for matrix in report.matrices:
        ending = "" if is_one else f".{matrix.title}"
        run.log_metrics({f"{name}{ending}": value for name, value in matrix.metrics()})
    run.log_contents(render_report(report), REPORT_DIRECTORY)
    is_whole = all(found.coverage.is_complete for of_track in joined.values() for found in of_track.values())
    is_usual = report.costs == DetectionCosts() and not (split or request.subset)
    if len(placed) > 1 and is_whole and is_usual:
        for matrix in report.matrices:
            sources = {track: systems[matrix.title] for track, systems in placed.items()}
            keys = {track: systems[matrix.title].key.digest for track, systems in joined.items()}
            _tell_of_model(run, corpus, matrix, sources, keys)
    return report


def _tell_of_model(
    run: TrackedRun,
    corpus: Corpus,
    matrix: TransferMatrix,
    sources: Mapping[str, ScoreSource],
    keys: Mapping[str, str],
) -> None:
    """Writes what decisions at the operating points of the first track cost on what is known of the model."""
    first, *others = sources
    tags = sources[first].tags
    told = ("model_id", TRAIN_RUN_TAG, "precision", "window_hop")
    if any(source.tags.get(name) != tags.get(name) for source in sources.values() for name in told):
        return
    if any(source.condition for source in sources.values()):
        return
    model_id, precision = tags.get(MODEL_ID_TAG, ""), tags.get("precision", "fp32")
    if not model_id or tags.get("window_hop", "0") != "0":
        return
    if precision == "fp32":
        figures = {
            name: value for name, value in matrix.metrics(SHOWN_METHODS, first) if BORNE_MEASURES.search(name)
        }
        train_run_id = tags.get(TRAIN_RUN_TAG, "")
        bear_figures(run.client, DECISIONS_TAG, model_id, train_run_id, lambda origin: figures)
    costs: dict[str, str] = {}
    for track in others:
        found = matrix.find(first, track, LOGISTIC_POINT)
        if found is not None:
            place = evaluated_place(corpus.name, track, precision)
            costs |= {
                place + COST_ENDING: f"{found.value('act_dcf'):.4f}",
                place + COST_SOURCE_ENDING: first,
                place + COST_KEY_ENDING: keys[track],
            }
    with refusals_warn(f"The versions of {model_id} could not be told"):
        note_costs(run.client, model_id, costs)
