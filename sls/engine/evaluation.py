"""Evaluation of one score file: from scores joined with a key to every number of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sls.metrics.det import det_curve, eer_of_curve
from sls.metrics.tdcf import LegacyTandemCosts, TandemCosts, asv_error_rates, minimum_of_curve

if TYPE_CHECKING:
    from sls.data.keys import AsvScores
    from sls.data.scores import JoinedScores

ALL_SUBSETS = "all"


@dataclass(frozen=True)
class Evaluation:
    """What is known of a system on one track."""

    track: str
    subset: str
    corpus: str
    num_bonafide: int
    num_spoof: int
    eer: float
    """Fraction."""
    eer_threshold: float
    min_tdcf: float | None
    min_tdcf_legacy: float | None
    warnings: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """Returns the numbers for a tracker by name; names that end in _percent are percentages."""
        found = {
            "eer_percent": 100 * self.eer,
            "min_tdcf": self.min_tdcf,
            "min_tdcf_legacy": self.min_tdcf_legacy,
            "num_bonafide": float(self.num_bonafide),
            "num_spoof": float(self.num_spoof),
        }
        return {name: value for name, value in found.items() if value is not None}


def evaluate(
    joined: JoinedScores,
    *,
    track: str,
    corpus: str = "",
    subset: str = ALL_SUBSETS,
    asv: AsvScores | None = None,
) -> Evaluation:
    """Evaluates scores that were joined with a key.

    Args:
        joined: Scores and the labels of their trials.
        track: Name of the track, for the report.
        corpus: Which data this is, when the track's name does not say it (the demo corpus).
        subset: Value of the key's `subset` column to evaluate; `all` takes every trial.
        asv: Scores of the speaker verifier, without which there is no t-DCF.
    """
    mask = np.ones(len(joined.scores), dtype=bool)
    if subset != ALL_SUBSETS and "subset" in joined.key.fields:
        mask = joined.key.fields["subset"] == subset
    scores, labels = joined.scores[mask], joined.key.labels[mask]
    curve = det_curve(scores[labels == 1], scores[labels == 0])
    eer = eer_of_curve(curve)
    min_tdcf = min_tdcf_legacy = None
    if asv is not None:
        rates = asv_error_rates(asv.target, asv.nontarget, asv.spoof)
        min_tdcf = minimum_of_curve(curve, TandemCosts().linear_cost(rates)).cost
        min_tdcf_legacy = minimum_of_curve(curve, LegacyTandemCosts().linear_cost(rates)).cost
    return Evaluation(
        track=track,
        subset=subset,
        corpus=corpus,
        num_bonafide=int(np.count_nonzero(labels == 1)),
        num_spoof=int(np.count_nonzero(labels == 0)),
        eer=eer.eer,
        eer_threshold=eer.threshold,
        min_tdcf=min_tdcf,
        min_tdcf_legacy=min_tdcf_legacy,
    )
