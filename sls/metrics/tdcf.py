"""The tandem detection cost function (t-DCF) of a countermeasure (CM) in front of a speaker verifier (ASV).

Two forms are in use. The revised one scored ASVspoof 2021: Kinnunen et al., "Tandem assessment of spoofing
countermeasures and automatic speaker verification: fundamentals", IEEE/ACM TASLP 2020, eq. 10 and 11. The
legacy one scored ASVspoof 2019: Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment
of spoofing countermeasures and automatic speaker verification", Odyssey 2018, eq. 10 and 11. Both are linear
in the CM's two error rates once the ASV is fixed, cost = C0 + C1 Pmiss + C2 Pfa, and are divided by the cost
of the better of two CMs that do not listen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sls.metrics.det import DetCurve, check_scores, compute_eer, det_curve

SPOOF_PRIOR = 0.05
TARGET_SHARE = 0.99
"""Share of targets among the trials that are not spoofed."""


@dataclass(frozen=True)
class AsvErrorRates:
    """Error rates of the speaker verifier at its own threshold, as fractions."""

    miss: float
    """Targets that are rejected."""
    false_alarm: float
    """Non-targets that are accepted."""
    spoof_false_alarm: float
    """Spoofed trials that are accepted."""
    threshold: float
    """A trial is accepted when its score is at or above it."""


Rates = TypeVar("Rates", float, NDArray[np.float64])


@dataclass(frozen=True)
class LinearCost:
    """A cost (c0 + c1 Pmiss + c2 Pfa) / normaliser in the error rates of the countermeasure."""

    c0: float
    c1: float
    c2: float
    normaliser: float

    def __post_init__(self) -> None:
        """Check that the cost rises with both error rates and can be normalised."""
        if self.c1 < 0 or self.c2 < 0 or self.normaliser <= 0:
            raise ValueError(
                f"t-DCF: found weights C1 = {self.c1:g} and C2 = {self.c2:g} with the normaliser "
                f"{self.normaliser:g}, expected positive ones: this ASV makes the cost meaningless"
            )

    def of_rates(self, frr: Rates, far: Rates) -> Rates:
        """Returns the normalised cost of false rejection and false acceptance rates, of their shape."""
        return (self.c0 + self.c1 * frr + self.c2 * far) / self.normaliser


@dataclass(frozen=True)
class TandemCosts:
    """Priors and costs of the revised t-DCF; the defaults are those of ASVspoof 2021."""

    spoof_prior: float = SPOOF_PRIOR
    target_prior: float = (1 - SPOOF_PRIOR) * TARGET_SHARE
    nontarget_prior: float = (1 - SPOOF_PRIOR) * (1 - TARGET_SHARE)
    miss_cost: float = 1
    """Of a target that the tandem rejects."""
    false_alarm_cost: float = 10
    """Of a non-target that the tandem accepts."""
    spoof_false_alarm_cost: float = 10
    """Of a spoofed trial that the tandem accepts."""

    def __post_init__(self) -> None:
        """Check priors and costs."""
        _check_priors(self.spoof_prior, self.target_prior, self.nontarget_prior)
        _check_costs(self.miss_cost, self.false_alarm_cost, self.spoof_false_alarm_cost)

    def linear_cost(self, asv: AsvErrorRates) -> LinearCost:
        """Returns the cost as a function of the CM's error rates (TASLP 2020, eq. 10 and 11)."""
        c0 = (
            self.target_prior * self.miss_cost * asv.miss
            + self.nontarget_prior * self.false_alarm_cost * asv.false_alarm
        )
        c1 = self.target_prior * self.miss_cost - c0
        c2 = self.spoof_prior * self.spoof_false_alarm_cost * asv.spoof_false_alarm
        return LinearCost(c0, c1, c2, c0 + min(c1, c2))


@dataclass(frozen=True)
class LegacyTandemCosts:
    """Priors and costs of the legacy t-DCF; the defaults are those of ASVspoof 2019."""

    spoof_prior: float = SPOOF_PRIOR
    target_prior: float = (1 - SPOOF_PRIOR) * TARGET_SHARE
    nontarget_prior: float = (1 - SPOOF_PRIOR) * (1 - TARGET_SHARE)
    asv_miss_cost: float = 1
    asv_false_alarm_cost: float = 10
    cm_miss_cost: float = 1
    cm_false_alarm_cost: float = 10

    def __post_init__(self) -> None:
        """Check priors and costs."""
        _check_priors(self.spoof_prior, self.target_prior, self.nontarget_prior)
        _check_costs(
            self.asv_miss_cost, self.asv_false_alarm_cost, self.cm_miss_cost, self.cm_false_alarm_cost
        )

    def linear_cost(self, asv: AsvErrorRates) -> LinearCost:
        """Returns the cost as a function of the CM's error rates (Odyssey 2018, eq. 10 and 11)."""
        c1 = (
            self.target_prior * (self.cm_miss_cost - self.asv_miss_cost * asv.miss)
            - self.nontarget_prior * self.asv_false_alarm_cost * asv.false_alarm
        )
        c2 = self.cm_false_alarm_cost * self.spoof_prior * asv.spoof_false_alarm
        return LinearCost(0.0, c1, c2, min(c1, c2))


@dataclass(frozen=True)
class MinCost:
    """The least value of a normalised cost over all thresholds."""

    cost: float
    threshold: float
    weights: LinearCost = field(repr=False)


def asv_error_rates(
    target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike, threshold: float | None = None
) -> AsvErrorRates:
    """Returns the ASV's error rates.

    Args:
        target: ASV scores of target trials, shape `(targets,)`.
        nontarget: ASV scores of non-target trials, shape `(non-targets,)`.
        spoof: ASV scores of spoofed trials, shape `(spoofed trials,)`.
        threshold: Where the ASV decides. None: its EER point between targets and non-targets.

    Raises:
        ValueError: A class is missing, or scores are NaN, infinite or constant.
    """
    target, nontarget = check_scores(target, nontarget, ("ASV target", "ASV non-target"))
    _, spoof = check_scores(target, spoof, ("ASV target", "ASV spoofed"))
    if threshold is None:
        threshold = compute_eer(target, nontarget).threshold
    return AsvErrorRates(
        miss=float(np.mean(target < threshold)),
        false_alarm=float(np.mean(nontarget >= threshold)),
        spoof_false_alarm=float(np.mean(spoof >= threshold)),
        threshold=float(threshold),
    )


def compute_min_tdcf(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    asv: AsvErrorRates,
    costs: TandemCosts | LegacyTandemCosts | None = None,
) -> MinCost:
    """Returns the normalised minimum t-DCF of a countermeasure.

    Args:
        bonafide: CM scores of bona fide trials, shape `(bona fide trials,)`; higher is more bona fide.
        spoof: CM scores of spoofed trials, shape `(spoofed trials,)`.
        asv: Error rates of the ASV (`asv_error_rates`).
        costs: The cost model; its type chooses the form. None: that of ASVspoof 2021.

    Raises:
        ValueError: As `sls.metrics.det.det_curve`, or the ASV makes the cost meaningless.
    """
    return minimum_of_curve(det_curve(bonafide, spoof), (costs or TandemCosts()).linear_cost(asv))


def minimum_of_curve(curve: DetCurve, weights: LinearCost) -> MinCost:
    """Returns the least cost on a DET curve, and the first threshold that reaches it."""
    costs = weights.of_rates(curve.frr, curve.far)
    index = int(np.argmin(costs))
    return MinCost(float(costs[index]), float(curve.thresholds[index]), weights)


def _check_priors(spoof: float, target: float, nontarget: float) -> None:
    priors = (spoof, target, nontarget)
    if min(priors) < 0 or abs(sum(priors) - 1) > 1e-9:
        raise ValueError(
            f"t-DCF priors of spoof, target and non-target: found {spoof:g}, {target:g} and {nontarget:g}, "
            "expected numbers of 0 or more with the sum 1"
        )


def _check_costs(*costs: float) -> None:
    if min(costs) < 0:
        raise ValueError(f"t-DCF costs: found {', '.join(f'{cost:g}' for cost in costs)}, expected 0 or more")
