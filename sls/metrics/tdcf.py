"""The tandem detection cost function (t-DCF) of a countermeasure (CM) in front of a speaker verifier (ASV).

Two forms are in use. The revised one scored ASVspoof 2021: Kinnunen et al., "Tandem assessment of spoofing
countermeasures and automatic speaker verification: fundamentals", IEEE/ACM TASLP 2020, eq. 10 and 11. The
legacy one scored ASVspoof 2019: Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment
of spoofing countermeasures and automatic speaker verification", Odyssey 2018, eq. 10 and 11. Both are linear
in the CM's two error rates once the ASV is fixed, cost = C0 + C1 Pmiss + C2 Pfa, and are divided by the cost
of the better of two CMs that do not listen.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sls.metrics.eer import DetCurve, check_scores, compute_eer

SPOOF_PRIOR = 0.05
TARGET_PRIOR, NONTARGET_PRIOR = (1 - SPOOF_PRIOR) * 0.99, (1 - SPOOF_PRIOR) * (1 - 0.99)
MISS_COST, FALSE_ALARM_COST = 1, 10
"""Of ASVspoof 2019 and 2021 alike, whether the CM, the ASV or their tandem errs."""


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

    def least(self, curve: DetCurve) -> float:
        """Returns the normalised cost at the threshold of a DET curve where it is least."""
        return float(self.of_rates(curve.frr, curve.far).min())


def revised_cost(asv: AsvErrorRates) -> LinearCost:
    """Returns the revised t-DCF in the error rates of the CM (TASLP 2020, eq. 10 and 11), as a `LinearCost`."""
    c0 = TARGET_PRIOR * MISS_COST * asv.miss + NONTARGET_PRIOR * FALSE_ALARM_COST * asv.false_alarm
    c1 = TARGET_PRIOR * MISS_COST - c0
    c2 = SPOOF_PRIOR * FALSE_ALARM_COST * asv.spoof_false_alarm
    return LinearCost(c0, c1, c2, c0 + min(c1, c2))


def legacy_cost(asv: AsvErrorRates) -> LinearCost:
    """Returns the legacy t-DCF in the error rates of the CM (Odyssey 2018, eq. 10 and 11), as a `LinearCost`."""
    c1 = (
        TARGET_PRIOR * (MISS_COST - MISS_COST * asv.miss)
        - NONTARGET_PRIOR * FALSE_ALARM_COST * asv.false_alarm
    )
    c2 = FALSE_ALARM_COST * SPOOF_PRIOR * asv.spoof_false_alarm
    return LinearCost(0.0, c1, c2, min(c1, c2))


def asv_error_rates(
    target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike, threshold: float | None = None
) -> AsvErrorRates:
    """Returns the ASV's error rates, by default at its EER point, from scores `(trials,)` as of `check_scores`."""
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
