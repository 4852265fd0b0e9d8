"""AUC, and the counts of right and wrong decisions at a chosen threshold."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import ArrayLike

from sls.metrics.eer import check_scores


@dataclass(frozen=True)
class Confusion:
    """Decisions at a threshold, in trials; bona fide is the positive class of F1."""

    accepted_bonafide: int
    rejected_bonafide: int
    accepted_spoof: int
    rejected_spoof: int

    @property
    def accuracy(self) -> float:
        """Share of right decisions; with classes of unequal size, accepting nothing may look good."""
        return (self.accepted_bonafide + self.rejected_spoof) / sum(astuple(self))

    @property
    def balanced_accuracy(self) -> float:
        """Mean of both classes' shares of right decisions."""
        bonafide = self.accepted_bonafide / (self.accepted_bonafide + self.rejected_bonafide)
        return (bonafide + self.rejected_spoof / (self.accepted_spoof + self.rejected_spoof)) / 2

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall of the bona fide class (van Rijsbergen, 1979)."""
        wrong = self.rejected_bonafide + self.accepted_spoof
        return 2 * self.accepted_bonafide / (2 * self.accepted_bonafide + wrong)


def confusion_at(bonafide: ArrayLike, spoof: ArrayLike, threshold: float) -> Confusion:
    """Counts decisions where scores at or below a threshold are rejected, as on the curve of `det_curve`."""
    bonafide, spoof = check_scores(bonafide, spoof)
    accepted_bonafide = int(np.count_nonzero(bonafide > threshold))
    accepted_spoof = int(np.count_nonzero(spoof > threshold))
    return Confusion(
        accepted_bonafide, bonafide.size - accepted_bonafide, accepted_spoof, spoof.size - accepted_spoof
    )


def compute_auc(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Returns the area under the ROC curve: how often a bona fide trial outscores a spoofed one, ties half.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982.

    Args and errors as `sls.metrics.eer.det_curve`.
    """
    bonafide, spoof = check_scores(bonafide, spoof)
    ranked = np.sort(spoof)
    below = np.searchsorted(ranked, bonafide, side="left").sum(dtype=np.float64)
    below_or_tied = np.searchsorted(ranked, bonafide, side="right").sum(dtype=np.float64)
    return float((below + below_or_tied) / 2 / (bonafide.size * spoof.size))
