"""Evaluation of one score file: from scores joined with a key to every number of a report."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sls.data.tables.asv_scores import AsvScores
from sls.data.tables.protocols import ALL_SUBSETS
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.breakdown import Condition, break_down
from sls.engine.evaluation.groups import ATTACK, SPEAKER, make_factors
from sls.engine.evaluation.measures import BITS, COST, FRACTION, SHARE, Measure
from sls.engine.evaluation.min_tdcf import TANDEM_COSTS, make_tandem, pick_tdcf
from sls.engine.evaluation.results import CurvePoints, Evaluation, Histogram, SubsetEer
from sls.engine.evaluation.warnings import find_warnings
from sls.metrics.calibration import Calibration
from sls.metrics.classification import Confusion, compute_auc, confusion_at
from sls.metrics.cllr import compute_cllr, compute_min_cllr
from sls.metrics.dcf import DetectionCosts, compute_act_dcf
from sls.metrics.eer import DetCurve, compute_eer, eer_of_curve, rank_trials
from sls.metrics.intervals import DEFAULT_LEVEL, Estimate, estimate_eer, estimate_min_cost, find_optimism
from sls.metrics.tdcf import LinearCost

logger = logging.getLogger(__name__)

OPTIMISM_SEED = 1234
"""Of the halvings that tell how much too low a least cost is."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What is asked of the scores of one system, or of several that are compared."""

    track: str
    """Name of the track, for the report."""
    corpus: str = ""
    """Which data this is, where the track's name does not say it (the demo corpus)."""
    subset: str = ALL_SUBSETS
    """Which subset of the key; `all` takes every trial."""
    metrics: Collection[str] = ("eer",)
    """What the track earns (`sls.data.corpora.tracks.METRICS`): these get intervals. The rest is computed too."""
    breakdown: Sequence[str] = ()
    """Columns of the key by which to break the EER (and min t-DCF) down, where the key has them."""
    asv: AsvScores | None = None
    """Trials of the speaker verifier in that subset, without which there is no t-DCF."""


def evaluate(
    joined: JoinedScores, plan: EvaluationPlan, *, system: str = "", calibration: Calibration | None = None
) -> Evaluation:
    """Evaluates scores that were joined with a key.

    The system is called as its score file by default; a calibration turns scores into log-likelihood ratios before
    anything else.

    Raises:
        ValueError: The subset holds no trial, a class is missing, or scores are not finite or all the same;
            the error names the score file. Or the ASV scores are of other recordings than the key's.
    """
    if plan.asv is not None:
        plan.asv.check_key(joined.key)
    other_subsets = _measure_other_subsets(joined, plan.subset, calibration)
    joined = joined.select_subset(plan.subset)
    everything = rank(joined, plan, calibration)
    ranking = everything.ranking
    curve = ranking.curve()
    eer = eer_of_curve(curve)
    bonafide, spoof = ranking.scores[ranking.is_bonafide], ranking.scores[~ranking.is_bonafide]
    confusion = confusion_at(bonafide, spoof, eer.threshold)
    warnings = find_warnings(everything, eer.eer, joined, plan.metrics, calibration, plan.asv)
    for warning in warnings:
        logger.warning("%s: %s", joined.table.place, warning)
    return Evaluation(
        system=system or joined.table.source.stem,
        track=plan.track,
        subset=plan.subset,
        corpus=plan.corpus,
        num_bonafide=ranking.num_bonafide,
        num_spoof=ranking.num_spoof,
        eer_threshold=eer.threshold,
        measures=(
            *_measure_with_intervals(everything, curve, plan.metrics),
            *_measure_without_intervals(bonafide, spoof, confusion),
        ),
        confusion=confusion,
        curve=CurvePoints.of(curve),
        histogram=Histogram.of(bonafide, spoof),
        other_subsets=other_subsets,
        breakdowns=break_down(everything, plan.breakdown),
        warnings=warnings,
        is_calibrated=calibration is not None,
        provenance=_describe(joined, plan.asv),
    )


def rank(joined: JoinedScores, plan: EvaluationPlan, calibration: Calibration | None = None) -> Condition:
    """Ranks the trials of a subset that was taken; what cannot be ranked is a ValueError that names the file."""
    is_bonafide = joined.is_bonafide
    scores = joined.scores if calibration is None else calibration.apply(joined.scores)
    try:
        ranking = rank_trials(scores, is_bonafide)
    except ValueError as error:
        place = f"(track {plan.track}, subset {plan.subset})"
        raise ValueError(f"{joined.table.place}: {error} {place}") from None
    factors = make_factors(joined, {*plan.breakdown, SPEAKER, ATTACK})
    if plan.asv is None:
        return Condition(ranking, factors, None)
    cost = TANDEM_COSTS[pick_tdcf(plan.metrics)]
    return Condition(ranking, factors, make_tandem(plan.asv, cost, {*plan.breakdown, ATTACK}))


def _measure_without_intervals(
    bonafide: np.ndarray, spoof: np.ndarray, confusion: Confusion
) -> list[Measure]:
    """Returns what is told as it is, the last three at the EER threshold."""
    return [
        Measure("act_dcf", compute_act_dcf(bonafide, spoof), COST),
        Measure("cllr", compute_cllr(bonafide, spoof), BITS),
        Measure("min_cllr", compute_min_cllr(bonafide, spoof), BITS),
        Measure("auc", compute_auc(bonafide, spoof), SHARE),
        Measure("accuracy", confusion.accuracy, FRACTION),
        Measure("balanced_accuracy", confusion.balanced_accuracy, FRACTION),
        Measure("f1", confusion.f1, SHARE),
    ]


def _measure_with_intervals(
    everything: Condition, curve: DetCurve, metrics: Collection[str]
) -> list[Measure]:
    """Returns the EER, and least costs, with intervals where the track earns them."""
    ranking = everything.ranking
    sampling = everything.sampling()
    found = [Measure.of("eer", estimate_eer(ranking, sampling).kinds, FRACTION)]
    least: dict[str, tuple[LinearCost, Callable[..., Estimate]]] = {}
    if everything.tandem is not None:
        for name, model in TANDEM_COSTS.items():
            tandem = replace(everything.tandem, cost=model)
            least[name] = (tandem.linear_cost(), partial(tandem.estimate, attacks=everything.find(ATTACK)))
    cost = DetectionCosts().linear_cost()
    least["min_dcf"] = (cost, partial(estimate_min_cost, cost=cost))
    for name, (cost, estimate) in least.items():
        if name not in metrics:
            found.append(Measure(name, cost.least(curve), COST))
            continue
        optimism = find_optimism(ranking, cost, np.random.default_rng(OPTIMISM_SEED))
        estimates = estimate(ranking, sampling=sampling, optimism=optimism).kinds
        found.append(Measure.of(name, estimates, COST))
    return found


def _measure_other_subsets(
    joined: JoinedScores, evaluated: str, calibration: Calibration | None
) -> tuple[SubsetEer, ...]:
    """Returns the EER of each other subset that the scores cover, where there is one."""
    is_selection = len(joined) != joined.coverage.joined
    subsets = () if is_selection else joined.coverage.whole_subsets
    scores = joined.scores if calibration is None or not subsets else calibration.apply(joined.scores)
    found = []
    for subset in (name for name in subsets if name != evaluated):
        chosen, is_bonafide = joined.key.subset_mask(subset), joined.is_bonafide
        bonafide, spoof = scores[chosen & is_bonafide], scores[chosen & ~is_bonafide]
        try:
            found.append(SubsetEer(subset, compute_eer(bonafide, spoof).eer, bonafide.size, spoof.size))
        except ValueError:  # a class is missing there, or all scores are the same
            continue
    return tuple(found)


def _describe(joined: JoinedScores, asv: AsvScores | None) -> dict[str, Any]:
    coverage = joined.coverage
    found: dict[str, Any] = {
        "scores": {"file": joined.table.source.name, "sha256": joined.table.digest},
        "key": {"file": joined.key.source.name, "sha256": joined.key.digest},
        "coverage": {
            "scored": coverage.scored,
            "keyed": coverage.keyed,
            "joined": coverage.joined,
            "share": coverage.joined / coverage.keyed,
        },
        "intervals": {"level": DEFAULT_LEVEL, "method": "Korn-Graubard", "seed": OPTIMISM_SEED},
    }
    if joined.key.speakers is not None:
        speakers = joined.key.speakers
        found["speakers"] = {"file": speakers.source.name, "sha256": speakers.digest}
    if asv is not None:
        found["asv_scores"] = {"file": asv.source.name, "sha256": asv.digest, "trials": asv.counts()}
    return found
