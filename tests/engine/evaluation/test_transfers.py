"""Operating points of every source on every target."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sls.data.tables.columns import Columns
from sls.engine.evaluation.groups import halve_by_speaker
from sls.engine.evaluation.transfers import check_apart, transfer
from sls.metrics.dcf import DetectionCosts
from sls.metrics.eer import compute_eer
from sls.metrics.operating_points import EER_POINT, LOGISTIC_POINT
from tests.engine.evaluation.keys import make_corpus, make_joined

SIZE = 20_000


def draw(bonafide: float, spoof: float, sd: float, seed: int, prefix: str):
    """A track of Gaussian classes."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(SIZE) % 3 == 0).astype(int)
    scores = rng.normal(np.where(labels == 1, bonafide, spoof), sd)
    return make_joined(scores, labels, names=[f"{prefix}{number}" for number in range(SIZE)])


@pytest.fixture(scope="module")
def report():
    tracks = {"home": draw(2, 0, 1, 1, "H"), "shifted": draw(4, 2, 1, 2, "S"), "wide": draw(2, -2, 2, 3, "W")}
    return transfer({name: {"ours": joined} for name, joined in tracks.items()}, "", "", DetectionCosts())


def test_the_matrix_of_tracks_is_that_of_the_closed_form(report):
    (matrix,) = report.matrices
    middle = {"home": (1.0, 1.0), "shifted": (3.0, 1.0), "wide": (0.0, 2.0)}
    means = {"home": (2, 0), "shifted": (4, 2), "wide": (2, -2)}
    for source, (threshold, _) in middle.items():
        for target, (_, sd) in middle.items():
            found = matrix.find(source, target, EER_POINT)
            bonafide, spoof = means[target]
            assert found.value("miss") == pytest.approx(stats.norm.cdf((threshold - bonafide) / sd), abs=0.02)
            assert found.value("false_alarm") == pytest.approx(
                stats.norm.sf((threshold - spoof) / sd), abs=0.02
            )
            assert found.is_own == (source == target)
    for ends in matrix.ends:
        assert ends.value("eer") == pytest.approx(stats.norm.cdf(-1), abs=0.01)
        own = matrix.find(ends.name, ends.name, LOGISTIC_POINT)
        assert own.value("act_dcf") == pytest.approx(ends.value("min_dcf"), abs=0.02)
        assert own.value("cllr") == pytest.approx(ends.value("min_cllr"), abs=0.01)


def test_the_worst_transfer_is_the_one_that_costs_most_beyond_the_targets_own(report):
    (matrix,) = report.matrices
    moved = [item for item in matrix.transfers if item.method == EER_POINT and not item.is_own]
    worst = max(
        moved,
        key=lambda item: (
            item.value("half_total_error") - matrix.own(item.target).value("min_half_total_error")
        ),
    )
    assert matrix.worst(EER_POINT) is worst
    assert all(matrix.excess(item) >= 0 for item in matrix.transfers)
    verdict = report.verdicts[0]
    assert f"of {worst.source} does worst on {worst.target}" in verdict
    for name in ("miss", "false_alarm", "half_total_error"):
        assert f"{100 * worst.value(name):.2f} %" in verdict
    metrics = dict(matrix.metrics())
    name = f"{worst.target}/miss_percent_by_eer_threshold_of_{worst.source}"
    assert metrics[name] == pytest.approx(100 * worst.value("miss"))
    assert not [found for found in metrics if found.startswith("home/") and found.endswith("_of_home")]


def test_systems_of_one_track_decide_at_each_others_thresholds():
    first = make_corpus()
    systems = {"one": first, "moved": replace(first, scores=first.scores + 3)}
    report = transfer({"LA": systems}, "", "all", DetectionCosts())
    (matrix,) = report.matrices
    threshold = compute_eer(first.scores[first.is_bonafide], first.scores[~first.is_bonafide]).threshold
    found = matrix.find("one", "moved", EER_POINT)
    assert found.value("false_alarm") == np.mean(first.scores[~first.is_bonafide] + 3 > threshold)
    assert found.measure("miss").intervals[-1].over == "10 speakers and 3 attacks"
    assert any("of one travels best" in text or "of moved travels best" in text for text in report.verdicts)
    json.dumps(report.to_dict(), allow_nan=False)


def test_of_several_systems_the_one_that_costs_least_at_its_worst_travels_best():
    steady = {"home": draw(2, 0, 1, 1, "H"), "away": draw(2.2, 0.1, 1, 2, "A")}
    shaky = {"home": draw(2, 0, 1, 3, "H"), "away": draw(5, 3, 1, 4, "A")}
    placed = {track: {"shaky": shaky[track], "steady": steady[track]} for track in steady}
    report = transfer(placed, "", "", DetectionCosts())
    best = [text for text in report.verdicts if "travels best" in text]
    assert len(best) == 2
    assert all("of steady travels best" in text for text in best)
    # Scores of `away` reach beyond those of `home`.
    assert any("away by the logistic calibration of home" in text for text in report.notes)


def test_the_same_trials_are_refused_and_shared_names_alone_are_not():
    first = make_corpus()
    elsewhere = replace(first.key, digest="e" * 64)
    half = replace(first, key=elsewhere).select(np.arange(len(first)) % 2 == 0)
    told = r"LA and half have 600 trials in common, the first T_00000"
    for same in (
        half,
        replace(half, scores=half.scores * (1 + 1e-5)),  # scored twice
        replace(
            half, scores=-half.scores, key=replace(half.key, digest=first.key.digest)
        ),  # by another system
    ):
        with pytest.raises(ValueError, match=told):
            check_apart({"LA": first, "half": same})
    check_apart({"LA": first, "other": replace(half, scores=half.scores + 1)})


def test_systems_of_one_track_are_judged_on_the_trials_that_all_have():
    whole = make_corpus()
    part = whole.select(np.arange(len(whole)) % 3 > 0)
    report = transfer({"LA": {"whole": whole, "part": part}}, "", "all", DetectionCosts())
    one, other = report.matrices[0].ends
    assert (one.num_bonafide, one.num_spoof) == (other.num_bonafide, other.num_spoof)
    assert one.num_bonafide + one.num_spoof == len(part)
    assert "1200" in report.notes[0]


def test_one_system_on_one_track_leaves_nothing_to_judge():
    with pytest.raises(ValueError, match="found LA and one system"):
        transfer({"LA": {"one": make_corpus()}}, "", "", DetectionCosts())


def test_halves_share_no_speaker_and_are_the_same_each_time():
    joined = make_corpus()
    first, second = halve_by_speaker(joined)
    speakers = [set(half.key.fields["speaker"].tolist()) for half in (first, second)]
    assert not speakers[0] & speakers[1]
    assert len(first) + len(second) == len(joined)
    assert abs(len(first) - len(second)) < len(joined) / 10
    assert np.array_equal(halve_by_speaker(joined)[0].scores, first.scores)
    without = replace(joined, key=replace(joined.key, fields=Columns({})))
    with pytest.raises(ValueError, match=r"key.txt: found no speakers"):
        halve_by_speaker(without)
