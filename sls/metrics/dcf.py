"""The detection cost function (DCF) of a countermeasure on its own, as ASVspoof 5 uses it.

Source: Wang et al., "ASVspoof 5: crowdsourced speech data, deepfakes, and adversarial attacks at scale",
    2024,
section 3 (eq. 1 to 4), and its evaluation package.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sls.metrics.eer import check_scores
from sls.metrics.tdcf import LinearCost


@dataclass(frozen=True)
class DetectionCosts:
    """Prior and costs of a decision; the defaults are those of ASVspoof 5."""

    spoof_prior: float = 0.05
    """Share of trials expected to be spoofed, between 0 and 1."""
    miss_cost: float = 1
    """Of a bona fide trial that is rejected."""
    false_alarm_cost: float = 10
    """Of a spoofed trial that is accepted."""

    def __post_init__(self) -> None:
        if not 0 < self.spoof_prior < 1:
            raise ValueError(f"spoof_prior: found {self.spoof_prior:g}, expected a share between 0 and 1")
        if not all(0 < cost < math.inf for cost in (self.miss_cost, self.false_alarm_cost)):
            raise ValueError(
                f"miss_cost and false_alarm_cost: found {self.miss_cost:g} and {self.false_alarm_cost:g}, "
                "expected positive costs"
            )

    @property
    def threshold(self) -> float:
        """The Bayes threshold: a log-likelihood ratio at or above it is accepted as bona fide."""
        return math.log(self.false_alarm_cost * self.spoof_prior / (self.miss_cost * (1 - self.spoof_prior)))

    def linear_cost(self) -> LinearCost:
        """Returns the cost as a function of both error rates, divided by that of the better blind system."""
        miss = self.miss_cost * (1 - self.spoof_prior)
        accept = self.false_alarm_cost * self.spoof_prior
        return LinearCost(0.0, miss, accept, min(miss, accept))


@dataclass(frozen=True)
class Decision:
    """What a log-likelihood ratio comes to at a prior, and at the costs of both errors."""

    llr: float
    probability_bonafide: float
    decision: Literal["bonafide", "spoof"]
    llr_threshold: float
    """The least `llr` that is accepted."""


def decide(llr: float, costs: DetectionCosts) -> Decision:
    """Decides on one trial at the least expected cost; `llr` is bona fide against spoof, natural logarithm."""
    log_odds = llr + math.log((1 - costs.spoof_prior) / costs.spoof_prior)
    probability = float(np.exp(-np.logaddexp(0, -log_odds)))
    return Decision(llr, probability, "bonafide" if llr >= costs.threshold else "spoof", costs.threshold)


def compute_act_dcf(bonafide: ArrayLike, spoof: ArrayLike, costs: DetectionCosts | None = None) -> float:
    """Returns the normalised DCF of LLRs at the Bayes threshold, by default at the costs of ASVspoof 5."""
    bonafide, spoof = check_scores(bonafide, spoof)
    costs = costs or DetectionCosts()
    miss, accept = np.mean(bonafide < costs.threshold), np.mean(spoof >= costs.threshold)
    return costs.linear_cost().of_rates(float(miss), float(accept))
