"""A threshold that travels: operating points of every source, judged on every target."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.breakdown import Condition
from sls.engine.evaluation.comparison import keep_common
from sls.engine.evaluation.evaluation import EvaluationPlan, rank
from sls.engine.evaluation.measures import BITS, COST, FRACTION, Measure
from sls.engine.evaluation.transfer_results import SYSTEMS_ON, Ends, Transfer, TransferMatrix, TransferReport
from sls.engine.evaluation.warnings import describe_outside
from sls.metrics.cllr import compute_min_cllr
from sls.metrics.dcf import DetectionCosts
from sls.metrics.eer import Ranking, eer_of_curve
from sls.metrics.operating_points import (
    LOGISTIC_POINT,
    OperatingPoint,
    estimate_cllr,
    estimate_decisions,
    set_operating_points,
)
from sls.metrics.sampling import Sampling

Placed = Mapping[str, Mapping[str, JoinedScores]]
"""Scores of the subset that is asked for, by track, then by system; every system has every track."""
SAME_SCORE = 1e-3
"""Of the range of scores: what the same trial, scored twice, stays within."""


def transfer(placed: Placed, corpus: str, subset: str, costs: DetectionCosts) -> TransferReport:
    """Judges the operating points of each track on all others; of one track, those of each system on the others.

    The source is taken as it is: intervals say what other trials, speakers and attacks of the target would make of
    the very same threshold. An empty subset is each track's own.

    Raises:
        ValueError: One track and one system, two tracks that hold the same trials, a class is missing, or scores
            that cannot be ranked or calibrated.
    """
    notes: list[str] = []
    of_all: dict[str, dict[str, JoinedScores]] = {}
    for track, by_system in placed.items():
        of_all[track], left_out = keep_common(by_system)
        notes += left_out
    placed, systems = of_all, list(next(iter(of_all.values())))
    if len(placed) > 1:
        tables = {system: {track: found[system] for track, found in placed.items()} for system in systems}
        for by_track in tables.values():
            check_apart(by_track)
    else:
        ((track, by_system),) = placed.items()
        if len(systems) < 2:
            raise ValueError(
                f"track: found {track} and one system, expected several tracks, several systems, or split=speaker"
            )
        tables = {f"{SYSTEMS_ON}{track}": dict(by_system)}
    matrices: list[TransferMatrix] = []
    for title, table in tables.items():
        conditions = {
            name: rank(joined, EvaluationPlan(name, subset=subset)) for name, joined in table.items()
        }
        points = {name: _set_points(table[name], found.ranking, costs) for name, found in conditions.items()}
        matrices.append(_judge(title, conditions, points, costs))
        notes += _find_shortcomings(title, conditions, points)
    return TransferReport(", ".join(placed), subset, corpus, costs, tuple(matrices), tuple(notes))


def check_apart(places: Mapping[str, JoinedScores]) -> None:
    """Refuses what would be fitted on the trials that it is evaluated on.

    Two corpora may share names: trials of one name are the same where they are of one key, or where most of them have
    nearly one score, since another batch moves a score a little.

    Raises:
        ValueError: Two of the places hold the same trials.
    """
    for (one, first), (other, second) in combinations(places.items(), 2):
        rows = second.key.names.find(first.key.names)
        shared = rows >= 0
        if not shared.any():
            continue
        distances = np.abs(first.scores[shared] - second.scores[rows[shared]])
        is_near = distances <= SAME_SCORE * np.ptp(first.scores)
        if first.key.digest == second.key.digest or is_near.mean() > 0.5:
            raise ValueError(
                f"track: {one} and {other} have {np.count_nonzero(shared):,} trials in common, the first "
                f"{first.key.names[shared][0]}, expected none: nothing is fitted on what it is evaluated on"
            )


def _set_points(joined: JoinedScores, ranking: Ranking, costs: DetectionCosts) -> tuple[OperatingPoint, ...]:
    try:
        return set_operating_points(*_split(ranking), costs)
    except ValueError as error:
        raise ValueError(f"{joined.table.place}: {error}") from None


def _split(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    return ranking.scores[ranking.is_bonafide], ranking.scores[~ranking.is_bonafide]


def _judge(
    title: str,
    conditions: Mapping[str, Condition],
    points: Mapping[str, tuple[OperatingPoint, ...]],
    costs: DetectionCosts,
) -> TransferMatrix:
    ends = tuple(_measure_own(name, found.ranking, costs) for name, found in conditions.items())
    samplings = {name: condition.sampling() for name, condition in conditions.items()}
    transfers = tuple(
        Transfer(
            source, target, point.method, tuple(_measure(point, condition.ranking, samplings[target], costs))
        )
        for source, set_there in points.items()
        for target, condition in conditions.items()
        for point in set_there
    )
    return TransferMatrix(title, ends, transfers)


def _measure_own(name: str, ranking: Ranking, costs: DetectionCosts) -> Ends:
    curve = ranking.curve()
    measures = (
        Measure("eer", eer_of_curve(curve).eer, FRACTION),
        Measure("min_half_total_error", float((curve.frr + curve.far).min()) / 2, FRACTION),
        Measure("min_dcf", costs.linear_cost().least(curve), COST),
        Measure("min_cllr", compute_min_cllr(*_split(ranking)), BITS),
    )
    return Ends(name, ranking.num_bonafide, ranking.num_spoof, measures)


def _measure(
    point: OperatingPoint, ranking: Ranking, sampling: Sampling, costs: DetectionCosts
) -> Iterator[Measure]:
    for name, found in estimate_decisions(point, ranking, costs, sampling).items():
        yield Measure.of(name, found.kinds, COST if name == "act_dcf" else FRACTION)
    if point.calibration is not None:
        kinds = filter(None, (sampling.trials, sampling))
        values = [estimate_cllr(point.calibration, ranking, kind) for kind in kinds]
        yield Measure("cllr", values[0][0], BITS, tuple(interval for _, interval in values))


def _find_shortcomings(
    title: str, conditions: Mapping[str, Condition], points: Mapping[str, tuple[OperatingPoint, ...]]
) -> Iterator[str]:
    """Yields where a calibration is missing, and where scores lie outside those that it was fitted on."""
    for source, set_there in points.items():
        line = next((point.calibration for point in set_there if point.method == LOGISTIC_POINT), None)
        if line is None:
            yield f"{title}: no logistic calibration of {source}, where bona fide trials score lower"
            continue
        for target, condition in conditions.items():
            outside = describe_outside(line, condition.ranking.scores)
            if target != source and outside:
                yield f"{title}, {target} by the logistic calibration of {source}: {outside}"
