"""Operating points: where a system decides, set on some trials, and what it then costs on others.

A threshold is the score of the EER, or that of the least cost, of the trials that it was set on; or the Bayes
threshold of the log-likelihood ratios (LLR) by a calibration that was fitted on them. Sources: Brümmer and du Preez,
"Application-independent evaluation of speaker detection", Computer Speech and Language 2006 (Cllr, and calibration by
logistic regression and PAV); the ASVspoof 5 evaluation plan (2024), section 5 (minimum and actual DCF).
"""

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sls.metrics.calibration import Calibration, fit_logistic, fit_pav
from sls.metrics.cllr import lose_nats
from sls.metrics.dcf import DetectionCosts
from sls.metrics.eer import DetCurve, Ranking, det_curve, eer_of_curve
from sls.metrics.intervals import DEFAULT_LEVEL, Estimate, Interval, make_rates
from sls.metrics.sampling import BONAFIDE, SPOOF, Sampling

EER_POINT, COST_POINT = "eer_threshold", "min_dcf_threshold"
"""Of the score itself."""
LOGISTIC_POINT, PAV_POINT = "logistic", "pav"
"""Of its LLR."""


@dataclass(frozen=True)
class OperatingPoint:
    """Where a system decides."""

    method: str
    threshold: float
    """Of the score, or of the LLR where there is a calibration."""
    calibration: Calibration | None = None

    def accept(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Returns which scores are taken for bona fide: above the threshold, as on a DET curve; LLRs at it, too."""
        scores = np.asarray(scores, dtype=np.float64)
        if self.calibration is None:
            return scores > self.threshold
        return self.calibration.apply(scores) >= self.threshold


def set_operating_points(
    bonafide: ArrayLike, spoof: ArrayLike, costs: DetectionCosts
) -> tuple[OperatingPoint, ...]:
    """Sets operating points on trials that are known: no logistic calibration where bona fide trials score lower.

    Args, beside prior and costs of a decision, and errors as `det_curve`.
    """
    curve = det_curve(bonafide, spoof)
    # Trials that tie are decided alike, where the curve takes them one by one.
    is_last = np.append(np.diff(curve.thresholds) > 0, True)
    curve = DetCurve(curve.frr[is_last], curve.far[is_last], curve.thresholds[is_last])
    least = int(np.argmin(costs.linear_cost().of_rates(curve.frr, curve.far)))
    points = [
        OperatingPoint(EER_POINT, eer_of_curve(curve).threshold),
        OperatingPoint(COST_POINT, float(curve.thresholds[least])),
    ]
    with suppress(ValueError):  # the curve has checked the scores: what is left is a line that falls
        points.append(OperatingPoint(LOGISTIC_POINT, costs.threshold, fit_logistic(bonafide, spoof)))
    return (*points, OperatingPoint(PAV_POINT, costs.threshold, fit_pav(bonafide, spoof)))


def estimate_decisions(
    point: OperatingPoint, ranking: Ranking, costs: DetectionCosts, sampling: Sampling
) -> dict[str, Estimate]:
    """Returns what an operating point costs on trials, and how that varies with them; the point itself is held.

    Args:
        point: Set on other trials.
        ranking: The trials, by the scores before any calibration.
        costs: Prior and costs of the normalised DCF.
        sampling: Clusters of the trials, each class in the order of its ranks.

    Returns:
        `miss`, the share of bona fide trials that are rejected; `false_alarm`, that of spoofed trials that are
        accepted; `half_total_error`, the mean of both; and `act_dcf`, the normalised DCF, actual and not least, which
        above 1 is worse than a system that does not listen.
    """
    accepted = point.accept(ranking.scores).astype(np.float64)
    errors = (1 - accepted[ranking.is_bonafide], accepted[~ranking.is_bonafide])
    miss, false_alarm = make_rates(errors, (float(errors[0].mean()), float(errors[1].mean())), sampling)
    cost = costs.linear_cost()
    weights = {
        "miss": (1.0, 0.0),
        "false_alarm": (0.0, 1.0),
        "half_total_error": (0.5, 0.5),
        "act_dcf": (cost.c1 / cost.normaliser, cost.c2 / cost.normaliser),
    }
    alone = {} if sampling.trials is None else estimate_decisions(point, ranking, costs, sampling.trials)
    return {
        name: Estimate(
            of_miss * miss.value + of_false_alarm * false_alarm.value,
            tuple(term for term in ((of_miss, miss), (of_false_alarm, false_alarm)) if term[0]),
            sampling,
            limits=(0.0, of_miss + of_false_alarm),
            over_trials=alone.get(name),
        )
        for name, (of_miss, of_false_alarm) in weights.items()
    }


def estimate_cllr(
    calibration: Calibration, ranking: Ranking, sampling: Sampling, level: float = DEFAULT_LEVEL
) -> tuple[float, Interval]:
    """Returns the Cllr of calibrated scores in bits, and its interval, symmetric about its logarithm.

    The calibration was fitted on other trials; these are ranked by their scores before it. The rest as
    `estimate_decisions`.
    """
    llrs = calibration.apply(ranking.scores)
    losses = lose_nats(llrs[ranking.is_bonafide], llrs[~ranking.is_bonafide])
    scale = 2 * math.log(2)
    value = sum(float(part.mean()) for part in losses) / scale
    moved = sampling.deviations(BONAFIDE, losses[BONAFIDE]) + sampling.deviations(SPOOF, losses[SPOOF])
    relative = math.sqrt(float(moved @ moved)) / scale / value if value else 0.0
    quantile = float(special.stdtrit(min(sampling.freedom), (1 + level) / 2))
    factor = math.exp(quantile * relative)
    interval = Interval(value / factor, value * factor, level, sampling.over, sampling.clusters)
    if sampling.trials is not None:
        interval = interval.containing(estimate_cllr(calibration, ranking, sampling.trials, level)[1])
    return value, interval
