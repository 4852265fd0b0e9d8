import numpy as np
import pytest

from sls.metrics.classification import Confusion, compute_auc, confusion_at
from sls.metrics.eer import compute_eer, det_curve
from tests.metrics.naive import draw_scores


def test_confusion_agrees_with_the_curve_at_its_threshold():
    bonafide, spoof = draw_scores(1, 80, 120, decimals=6)
    eer = compute_eer(bonafide, spoof)
    found, curve = confusion_at(bonafide, spoof, eer.threshold), det_curve(bonafide, spoof)
    place = int(np.argmin(np.abs(curve.frr - curve.far)))
    assert found.rejected_bonafide / bonafide.size == curve.frr[place]
    assert found.accepted_spoof / spoof.size == pytest.approx(curve.far[place])


def test_a_score_at_the_threshold_is_rejected_whatever_its_class():
    found = confusion_at([0.0, 1.0, 2.0, 3.0], [-1.0, 0.5, 1.0, 2.0], 1.0)
    assert found == Confusion(accepted_bonafide=2, rejected_bonafide=2, accepted_spoof=1, rejected_spoof=3)


def test_rates_of_a_confusion_follow_their_definitions():
    found = Confusion(accepted_bonafide=8, rejected_bonafide=2, accepted_spoof=4, rejected_spoof=16)
    assert found.accuracy == 24 / 30
    assert found.balanced_accuracy == pytest.approx((0.8 + 0.8) / 2)
    precision, recall = 8 / 12, 8 / 10
    assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_auc_counts_pairs_with_ties_half():
    bonafide, spoof = draw_scores(2, 40, 50)
    wins = np.sign(bonafide[:, None] - spoof[None, :])
    assert compute_auc(bonafide, spoof) == pytest.approx(((wins + 1) / 2).mean())


def test_auc_of_one_class_raises():
    with pytest.raises(ValueError, match="no spoofed trial"):
        compute_auc([1.0], [])
