import json
import logging
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from sls.config import PROJECT_ROOT
from sls.data.corpora.tracks import load_tracks
from sls.data.tables import asv_scores
from sls.data.tables.asv_scores import ROLE_SPELLINGS, Role
from sls.data.tables.columns import Categories, Columns, Texts
from sls.data.tables.score_files import Coverage, join_scores, read_scores
from sls.data.tables.text_table import MAX_MAGNITUDE
from sls.engine.evaluation import breakdown
from sls.engine.evaluation.calibration import fit_calibration, load_calibration, save_calibration
from sls.engine.evaluation.evaluation import EvaluationPlan, evaluate
from sls.engine.evaluation.groups import order_values
from sls.engine.evaluation.min_tdcf import TANDEM_COSTS, pick_tdcf
from sls.engine.evaluation.results import POOLED, Breakdown, Cell, Evaluation
from sls.metrics.calibration import LogisticCalibration, PavCalibration
from sls.metrics.eer import compute_eer, det_curve
from sls.metrics.tdcf import asv_error_rates, legacy_cost, revised_cost
from tests.engine.evaluation.keys import make_asv, make_corpus, make_joined


def evaluate_corpus(system="", calibration=None, **asked) -> Evaluation:
    plan = EvaluationPlan(**{"track": "LA", "breakdown": ("attack", "codec", "speaker"), **asked})
    return evaluate(make_corpus(), plan, system=system, calibration=calibration)


def find_breakdown(evaluation: Evaluation, *fields: str) -> Breakdown:
    return next(breakdown for breakdown in evaluation.breakdowns if breakdown.fields == fields)


def find_cell(breakdown: Breakdown, *values: str) -> Cell:
    return next(cell for cell in breakdown.cells if cell.values == values)


def scores_where(mask_bonafide: np.ndarray, mask_spoof: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    joined = make_corpus()
    is_bonafide = joined.key.labels == 1
    return joined.scores[is_bonafide & mask_bonafide], joined.scores[~is_bonafide & mask_spoof]


def test_pooled_numbers_are_those_of_the_metrics():
    everything = np.ones(1_200, dtype=bool)
    bonafide, spoof = scores_where(everything, everything)
    asv = make_asv()
    found = evaluate_corpus(asv=asv)
    rates = asv_error_rates(*asv.by_role())
    assert found.eer == compute_eer(bonafide, spoof).eer
    curve = det_curve(bonafide, spoof)
    assert found.value("min_tdcf") == revised_cost(rates).least(curve)
    assert found.value("min_tdcf_legacy") == legacy_cost(rates).least(curve)
    assert (found.num_bonafide, found.num_spoof) == (bonafide.size, spoof.size)


def test_scores_as_large_as_are_read_give_the_same_rates_and_no_overflow():
    joined = make_corpus()
    large = replace(joined, scores=joined.scores / np.abs(joined.scores).max() * MAX_MAGNITUDE)
    with np.errstate(all="raise", under="ignore"):
        found = evaluate(large, EvaluationPlan("LA"))
        calibrated = evaluate(large, EvaluationPlan("LA"), calibration=fit_calibration(large, "logistic"))
    assert found.eer == calibrated.eer == evaluate(joined, EvaluationPlan("LA")).eer


def test_the_other_subsets_of_the_key_stand_beside_the_evaluated_one():
    corpus = make_corpus()
    joined = join_scores(corpus.table, corpus.key)
    for calibration in (None, PavCalibration((-1.0, 0.0, 2.0), (-3.0, 0.0, 3.0))):
        found = {
            name: evaluate(joined, EvaluationPlan("LA", subset=name), calibration=calibration)
            for name in ("all", "eval", "progress")
        }
        for name, evaluation in found.items():
            others = {other.subset: other for other in evaluation.other_subsets}
            assert set(others) == set(found) - {name}
            for other in others.values():
                same = found[other.subset]
                assert (other.eer, other.num_bonafide, other.num_spoof) == (
                    same.eer,
                    same.num_bonafide,
                    same.num_spoof,
                )
    num_eval = len(joined.select_subset("eval"))
    assert found["eval"].scope.endswith(
        f"eval {100 * found['eval'].eer:.2f} % ({num_eval:,} trials), "
        f"all {100 * found['all'].eer:.2f} % (1,200 trials), "
        f"progress {100 * found['progress'].eer:.2f} % ({1_200 - num_eval:,} trials)"
    )


@pytest.mark.parametrize(
    ("kept", "expected"),
    [(["eval"], set()), (["eval", "progress"], {"progress"}), (["eval", "hidden"], {"hidden"})],
)
def test_a_subset_that_scores_do_not_cover_is_left_out(kept, expected):
    corpus = make_corpus()
    subsets = np.where(np.arange(1_200) < 100, "hidden", corpus.key.fields["subset"]).astype(object)
    key = replace(corpus.key, fields=Columns.encode({"subset": subsets}))
    is_kept = np.isin(subsets.astype(str), kept)
    is_kept[-1] = True  # a trial of another subset does not make it whole
    table = replace(corpus.table, names=key.names[is_kept], scores=corpus.scores[is_kept])
    joined = join_scores(table, key, allow_partial=True)
    found = evaluate(joined, EvaluationPlan("LA", subset="eval"))
    assert {other.subset for other in found.other_subsets} == expected
    assert bool(found.scope) == bool(expected)


def test_a_subset_of_one_class_has_no_error_rate():
    corpus = make_corpus()
    subsets = np.where(corpus.is_bonafide, corpus.key.fields["subset"], "eval").astype(object)
    joined = join_scores(corpus.table, replace(corpus.key, fields=Columns.encode({"subset": subsets})))
    found = evaluate(joined, EvaluationPlan("LA", subset="eval"))
    assert [other.subset for other in found.other_subsets] == ["all"]


@pytest.mark.parametrize("fields", [{}, {"subset": np.array(["eval"] * 60, dtype=object)}])
def test_a_key_that_is_not_divided_into_subsets_has_one_scope(fields):
    labels = np.arange(60) < 30
    made = make_joined(np.arange(60.0), labels, fields)
    found = evaluate(join_scores(made.table, made.key), EvaluationPlan("X"))
    assert (found.other_subsets, found.scope) == ((), "")


def test_an_attack_selects_spoofed_trials_only_and_a_codec_both_classes():
    found, fields = evaluate_corpus(), make_corpus().key.fields
    everything = np.ones(1_200, dtype=bool)
    by_attack, by_codec = find_breakdown(found, "attack"), find_breakdown(found, "codec")
    assert (by_attack.is_spoof_only, by_codec.is_spoof_only) == ((True,), (False,))
    of_attack, of_codec = fields["attack"] == "A9", fields["codec"] == "alaw"
    assert find_cell(by_attack, "A9").eer == compute_eer(*scores_where(everything, of_attack)).eer
    assert find_cell(by_codec, "alaw").eer == compute_eer(*scores_where(of_codec, of_codec)).eer
    crossed = find_cell(find_breakdown(found, "attack", "codec"), "A9", "alaw")
    assert crossed.eer == compute_eer(*scores_where(of_codec, of_codec & of_attack)).eer
    assert crossed.num_bonafide == find_cell(by_codec, "alaw").num_bonafide


def test_margins_of_a_crossed_breakdown_are_the_breakdowns_by_one_field():
    found = evaluate_corpus()
    crossed = find_breakdown(found, "attack", "codec")
    assert crossed.axis(0) == ("A9", "A10", "A11", POOLED)  # natural order
    assert crossed.axis(1) == ("alaw", "none", POOLED)
    assert find_cell(crossed, POOLED, POOLED).eer == found.eer
    assert find_cell(crossed, "A10", POOLED).eer == find_cell(find_breakdown(found, "attack"), "A10").eer
    assert find_cell(crossed, POOLED, "none").eer == find_cell(find_breakdown(found, "codec"), "none").eer


def test_tdcf_of_a_condition_meets_the_asv_in_the_same_condition():
    asv, fields = make_asv(), make_corpus().key.fields
    found = evaluate_corpus(asv=asv, metrics=("eer", "min_tdcf"))
    of_codec, of_attack = fields["codec"] == "none", fields["attack"] == "A11"
    there = asv.select(asv.fields["codec"] == "none")
    attacked = there.select((there.fields["attack"] == "A11") | (there.roles != Role.SPOOF))
    rates = asv_error_rates(*attacked.by_role())
    expected = revised_cost(rates).least(det_curve(*scores_where(of_codec, of_codec & of_attack)))
    assert find_cell(find_breakdown(found, "attack", "codec"), "A11", "none").min_tdcf == pytest.approx(
        expected
    )


def test_a_track_of_2019_is_broken_down_by_the_legacy_cost():
    asv = make_asv()
    legacy = evaluate_corpus(asv=asv, metrics=("eer", "min_tdcf_legacy"))
    both = evaluate_corpus(asv=asv, metrics=("eer", "min_tdcf", "min_tdcf_legacy"))
    for found, pooled in ((legacy, legacy.value("min_tdcf_legacy")), (both, both.value("min_tdcf"))):
        crossed = find_breakdown(found, "attack", "codec")
        assert find_cell(crossed, POOLED, POOLED).min_tdcf == pytest.approx(pooled)


@pytest.mark.parametrize(
    ("metrics", "form"),
    [
        (("eer", "min_tdcf_legacy"), legacy_cost),
        (("min_tdcf", "min_tdcf_legacy"), revised_cost),
        (("eer",), revised_cost),
    ],
)
def test_the_legacy_cost_is_taken_where_a_track_earns_it_alone(metrics, form):
    assert TANDEM_COSTS[pick_tdcf(metrics)] is form


def test_a_field_whose_values_the_classes_do_not_share_selects_spoofed_trials():
    joined = make_corpus()
    team = np.where(joined.key.labels == 1, "-", np.array(["T1", "T2"], dtype=object)[np.arange(1_200) % 2])
    joined = replace(joined, key=replace(joined.key, fields=Columns.encode({"team": team})))
    found = evaluate(joined, EvaluationPlan("DF", breakdown=("team",)))
    by_team = find_breakdown(found, "team")
    assert by_team.is_spoof_only == (True,)
    assert [cell.values for cell in by_team.cells] == [("T1",), ("T2",)]
    assert all(cell.num_bonafide == found.num_bonafide for cell in by_team.cells)


def test_fields_of_too_many_values_do_not_cross(monkeypatch):
    for most, count in ((8, 1), (7, 0)):  # 3 attacks and the word for bona fide, 2 codecs
        monkeypatch.setattr(breakdown, "MAX_CROSSED_CELLS", most)
        crossed = [found for found in evaluate_corpus().breakdowns if len(found.fields) == 2]
        assert len(crossed) == count


def test_an_attack_does_not_cross_the_corpus_that_it_is_from():
    joined = make_corpus()
    fields = joined.key.fields
    source = np.where(fields["attack"] == "A9", "vcc", "asvspoof")
    bonafide = joined.key.labels == 1
    source[bonafide] = np.array(["vcc", "asvspoof"], dtype=object)[np.arange(bonafide.sum()) % 2]
    key = replace(joined.key, fields=Columns.encode({**fields, "source": source.astype(object)}))
    found = evaluate(replace(joined, key=key), EvaluationPlan("DF", breakdown=("attack", "source", "codec")))
    crossed = [breakdown.fields for breakdown in found.breakdowns if len(breakdown.fields) == 2]
    assert crossed == [("attack", "codec")]


def test_cells_without_a_class_say_so_in_the_place_of_a_number():
    scores, labels = np.array([3.0, 1.0, 0.5, 2.0, 5.0]), np.array([1, 0, 0, 1, 1])
    fields = {"speaker": np.array(["a", "a", "b", "c", "c"], dtype=object)}
    found = evaluate(make_joined(scores, labels, fields), EvaluationPlan("X", breakdown=("speaker",)))
    cells = {cell.values[0]: cell for cell in find_breakdown(found, "speaker").cells}
    assert cells["a"].eer == 0
    # One trial of each class tells next to nothing.
    assert all(interval.low == 0 and interval.high > 0.9 for interval in cells["a"].intervals)
    assert (cells["b"].eer, cells["b"].note) == (None, "no bona fide trial")
    assert (cells["c"].eer, cells["c"].note) == (None, "no spoofed trial")


def test_a_subset_is_selected_and_an_unknown_one_named():
    found = evaluate_corpus(subset="eval")
    assert found.num_bonafide + found.num_spoof == np.sum(make_corpus().key.fields["subset"] == "eval")
    with pytest.raises(ValueError, match="hidden"):
        evaluate_corpus(subset="hidden")


def test_intervals_say_over_what_they_are_and_hold_the_number():
    found = evaluate_corpus(asv=make_asv(), metrics=("eer", "min_tdcf"))
    for name in ("eer", "min_tdcf"):
        measure = found.measure(name)
        trials, clusters = measure.intervals
        assert (trials.over, trials.clusters) == ("trials", {})
        assert (clusters.over, clusters.clusters) == (
            "10 speakers and 3 attacks",
            {"speakers": 10, "attacks": 3},
        )
        assert (measure.interval(), measure.interval(is_clustered=True)) == (trials, clusters)
        assert clusters.low < trials.low < measure.value < trials.high < clusters.high
    assert found.measure("min_dcf").intervals == ()  # not what the track earns
    cell = find_cell(find_breakdown(found, "attack"), "A11")
    assert [interval.clusters for interval in cell.intervals] == [{}, {"speakers": 10, "attacks": 1}]
    speaker = find_breakdown(found, "speaker").cells[0]
    assert [interval.clusters for interval in speaker.intervals] == [{}, {"speakers": 1, "attacks": 3}]
    for measured in (cell, speaker):
        assert all(interval.low < measured.eer < interval.high for interval in measured.intervals)


def test_columns_that_no_breakdown_asks_for_are_not_read():
    joined = make_corpus()
    columns = joined.key.fields
    fields = {name: partial(columns.categories, name) for name in ("speaker", "attack", "codec")}
    fields["team"] = partial(pytest.fail, "read a column that nobody asked for")
    joined = replace(joined, key=replace(joined.key, fields=Columns(fields)))
    assert evaluate(joined, EvaluationPlan("LA", breakdown=("codec",))).breakdowns[0].fields == ("codec",)


def test_a_key_without_speakers_has_intervals_over_trials_alone():
    joined = make_corpus()
    unnamed = np.full(1_200, "-", dtype=object)
    joined = replace(joined, key=replace(joined.key, fields=Columns.encode({"speaker": unnamed})))
    found = evaluate(joined, EvaluationPlan("X", breakdown=("speaker",)))
    assert [interval.over for interval in found.measures[0].intervals] == ["trials"]
    assert found.breakdowns == ()


def test_the_same_scores_give_the_same_evaluation_and_another_breakdown_moves_no_interval():
    first, second = (evaluate_corpus().to_dict() for _ in range(2))
    assert first == second
    other = evaluate_corpus(breakdown=("codec",))
    assert find_breakdown(other, "codec") == find_breakdown(evaluate_corpus(), "codec")
    assert other.measures == evaluate_corpus().measures


def test_negated_scores_are_warned_of_aloud(caplog):
    joined = make_corpus()
    joined = replace(joined, scores=-joined.scores)
    with caplog.at_level(logging.WARNING):
        found = evaluate(joined, EvaluationPlan("LA"))
    assert any("better negated" in warning for warning in found.warnings)
    assert "scores.txt" in caplog.text
    assert "better negated" in caplog.text
    assert evaluate_corpus().warnings == ()


def test_scores_that_know_nothing_are_not_taken_for_negated_ones():
    joined = make_corpus()
    random = np.random.default_rng(4)
    both = [replace(joined, scores=sign * random.normal(size=len(joined.scores))) for sign in (1, -1) * 10]
    found = [evaluate(scores, EvaluationPlan("LA")).warnings for scores in both]
    assert sum(any("negated" in warning for warning in warnings) for warnings in found) <= 2


def test_few_trials_decisions_and_partial_coverage_are_warned_of():
    joined = make_joined(np.array([1.0, 1.0, 0.0]), np.array([1, 1, 0]))
    joined = replace(joined, coverage=Coverage(scored=5, keyed=4, joined=3))
    found = evaluate(joined, EvaluationPlan("X"))
    for part in ("only 2 bona fide", "only 1 spoofed", "decisions", "3 trials in both"):
        assert part in " ".join(found.warnings)
    assert all(0 <= interval.low < interval.high <= 1 for interval in found.measures[0].intervals)
    assert found.metrics()["coverage_percent"] == 75


def test_a_track_that_earns_a_tdcf_says_so_where_there_are_no_asv_scores():
    found = evaluate(make_corpus(), EvaluationPlan("LA", metrics=("eer", "min_tdcf")))
    assert [text for text in found.warnings if text.startswith("no ASV scores were found")]
    assert not evaluate(make_corpus(), EvaluationPlan("DF", metrics=("eer",))).warnings


def test_asv_scores_that_do_not_name_their_attacks_are_warned_of():
    asv = make_asv()
    told = [
        any("do not name their attacks" in text for text in evaluate_corpus(asv=scores).warnings)
        for scores in (asv, replace(asv, fields=Columns.encode({"codec": asv.fields["codec"]})))
    ]
    assert told == [False, True]


def test_asv_scores_of_other_attacks_are_warned_of():
    asv = make_asv()
    foreign = replace(
        asv,
        fields=Columns.encode({**asv.fields, "attack": np.where(asv.roles == Role.SPOOF, "X01", "bonafide")}),
    )
    warned = [
        any("ASV scores know none" in text for text in evaluate_corpus(asv=scores).warnings)
        for scores in (asv, foreign)
    ]
    assert warned == [False, True]


@pytest.mark.parametrize("ending", ["", "-alaw-ita_tx", "-none"])
@pytest.mark.parametrize("is_foreign", [False, True])
def test_asv_scores_of_other_trials_are_warned_of_whatever_their_attacks(monkeypatch, ending, is_foreign):
    monkeypatch.setattr(asv_scores, "CERTAIN_NAMES", 10**6)  # a key too small to be certain of a sample
    asv, key = make_asv(), make_corpus().key
    spoofed = key.names[np.flatnonzero(key.labels == 0)].tolist()
    prefix = "other_" if is_foreign else ""
    names = [f"{prefix}{spoofed[row % len(spoofed)]}{ending}" for row in range(len(asv))]
    named = replace(asv, spoofed_names=Texts.encode(names))
    found = evaluate_corpus(asv=named, metrics=("eer", "min_tdcf"))
    assert any("hold none of the key's trials" in text for text in found.warnings) == is_foreign


@pytest.mark.parametrize(("has_all_names", "certain"), [(False, 10**6), (True, 10**6), (False, 1)])
@pytest.mark.parametrize(
    ("ending", "is_foreign"), [("", False), ("-alaw-ita_tx", False), (".wav", False), ("", True)]
)
def test_asv_scores_are_refused_where_all_their_trials_are_others(
    monkeypatch, ending, is_foreign, has_all_names, certain
):
    monkeypatch.setattr(asv_scores, "CERTAIN_NAMES", certain)
    asv, corpus = make_asv(), make_corpus()
    spoofed = corpus.key.names[np.flatnonzero(corpus.key.labels == 0)].tolist()
    named = [f"{'other_' if is_foreign else 'folder/'}{name}{ending}" for name in spoofed]
    if not is_foreign:
        named = ["another", named[0]]  # some are missing
    asv = replace(asv, spoofed_names=Texts.encode(named), has_all_names=has_all_names)
    if is_foreign and (has_all_names or certain == 1):
        with pytest.raises(ValueError, match=rf"{asv.source}: .*'other_.*{corpus.key.source}.*asv_scores"):
            evaluate_corpus(asv=asv)
    else:
        evaluate_corpus(asv=asv)


@pytest.mark.parametrize(("times", "is_told"), [(1, False), (3, False), (0.5, True), (1.5, True)])
def test_asv_scores_without_names_are_held_against_the_key_by_the_trials_of_each_attack(times, is_told):
    asv, corpus = make_asv(), make_corpus()
    keyed = corpus.key.fields["attack"][corpus.key.labels == 0]
    rows = np.resize(np.flatnonzero(asv.roles == Role.SPOOF), int(times * len(keyed)))
    attacks = np.resize(keyed, len(rows))
    others = np.flatnonzero(asv.roles != Role.SPOOF)
    chosen = np.concatenate([others, rows])
    fields = {"attack": [*["bonafide"] * len(others), *attacks]}
    asv = replace(asv, scores=asv.scores[chosen], roles=asv.roles[chosen], fields=Columns.encode(fields))
    found = evaluate_corpus(asv=asv, metrics=("eer", "min_tdcf"))
    assert any("name no trials" in text for text in found.warnings) == is_told


@pytest.mark.parametrize("attack", ["A9", "-"])
def test_asv_scores_of_one_attack_give_a_tdcf_with_intervals(attack):
    asv = make_asv()
    alike = np.where(asv.roles == Role.SPOOF, attack, "bonafide")
    asv = replace(asv, fields=Columns.encode({**asv.fields, "attack": alike}))
    measure = evaluate_corpus(asv=asv, metrics=("eer", "min_tdcf")).measure("min_tdcf")
    assert all(interval.low < measure.value < interval.high for interval in measure.intervals)


def test_a_calibration_that_ties_scores_is_warned_of():
    other = make_corpus(seed=5, size=200)
    told = [
        any("makes equals of scores" in text for text in evaluate_corpus(calibration=found).warnings)
        for found in (fit_calibration(other, "logistic"), fit_calibration(other, "pav"))
    ]
    assert told == [False, True]


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        (
            LogisticCalibration(2.0, 0.0, (-1.0, 4.0)),
            r" -1 to 4: 3 of 6 .*extrapolated",
        ),
        (
            PavCalibration((-1.0, 4.0), (-2.0, 3.0)),
            r" -1 to 4: 3 of 6 .*held",
        ),
        (LogisticCalibration(2.0, 0.0, (-3.0, 4.5)), ""),
        (LogisticCalibration(2.0, 0.0), ""),
    ],
)
def test_scores_outside_those_of_the_fit_are_counted(calibration, told):
    joined = make_joined(np.array([-3.0, -1.0, -1.5, 0.0, 4.0, 4.5]), np.array([0, 0, 1, 0, 1, 1]))
    found = evaluate(joined, EvaluationPlan("X"), calibration=calibration).warnings
    texts = [text for text in found if text.startswith("outside ")]
    assert len(texts) == bool(told)
    assert re.search(told, "".join(texts))


@pytest.mark.parametrize(
    ("bonafide", "spoof", "told"),
    [
        # An AUC of 0.875; half of each class ties where the rates cross.
        ([1, 1, 2, 2], [0, 0, 1, 1], "50.00 % with bona fide"),
        ([1, 1, 2, 2], [0, 0, 1, 1], " 0.00 % with spoofed"),
        # At the end of the ties the rates are the same, and they are closest there in either order.
        ([0, 1, 1, 1], [0, 0, 0, 1], ""),
        # Ties of one class, or away from the threshold, have one order.
        ([0, 0, 3, 4, 5, 6], [0, 0, 1, 1, 4, 2], ""),
    ],
)
def test_ties_that_decide_the_eer_are_told_with_both_figures(bonafide, spoof, told):
    joined = make_joined(np.array([*bonafide, *spoof], dtype=float), np.arange(2 * len(spoof)) < len(spoof))
    texts = [
        text for text in evaluate(joined, EvaluationPlan("X")).warnings if text.startswith("ties decide")
    ]
    assert len(texts) == bool(told)
    assert told in "".join(texts)


def test_perfect_scores_do_not_claim_a_certain_zero():
    labels = np.arange(120) < 60
    speakers = np.array([f"S{number % 12}" for number in range(120)], dtype=object)
    joined = make_joined(np.where(labels, 1.0, 0.0) + np.arange(120) / 1e3, labels, {"speaker": speakers})
    trials, clusters = evaluate(joined, EvaluationPlan("X")).measures[0].intervals
    assert trials.low == clusters.low == 0
    # Nothing seen among 60: up to 3 / 60 one-sided, 3.7 / 60 two-sided.
    assert 0.05 < trials.high < 0.07
    # Trials of one speaker may be alike, and without an error nothing tells how much.
    assert trials.high < clusters.high < 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1, 1], "no spoofed trial"),
        ([1.0, 1.0], [1, 0], "constant"),
        ([np.nan, 1.0], [1, 0], "NaN"),
    ],
)
def test_what_cannot_be_evaluated_names_the_score_file(scores, labels, message):
    with pytest.raises(ValueError, match=f"scores.txt: .*{message}"):
        evaluate(make_joined(np.array(scores), np.array(labels)), EvaluationPlan("X"))


def test_a_list_without_labels_is_no_key():
    joined = make_corpus()
    joined = replace(joined, key=replace(joined.key, labels=None))
    for work in (partial(evaluate, joined, EvaluationPlan("X")), partial(fit_calibration, joined)):
        with pytest.raises(ValueError, match=r"^key\.txt: found .*without labels, expected a key$"):
            work()


def test_tracker_metrics_are_percentages_with_their_intervals():
    found = evaluate_corpus(asv=make_asv(), metrics=("eer", "min_tdcf"))
    metrics = found.metrics()
    assert metrics["eer_percent"] == 100 * found.eer
    assert metrics["eer_percent_low"] == 100 * found.measures[0].interval().low
    assert metrics["eer_percent_clustered_high"] == 100 * found.measures[0].interval(is_clustered=True).high
    assert metrics["min_tdcf"] == found.value("min_tdcf")
    assert metrics["min_tdcf_low"] < metrics["min_tdcf_high"]
    assert all(isinstance(value, float) for value in metrics.values())


def test_an_evaluation_survives_json_with_its_units():
    found = evaluate_corpus(asv=make_asv())
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["measures"][0] == {
        "name": "eer",
        "value": found.eer,
        "unit": "fraction",
        "intervals": [vars(interval) for interval in found.measures[0].intervals],
    }
    assert sum(content["histogram"]["spoof"]) == found.num_spoof
    assert content["provenance"]["scores"] == {"file": "scores.txt", "sha256": "s" * 64}
    counts = {name: int(np.sum(make_asv().roles == role)) for name, role in ROLE_SPELLINGS.items()}
    assert content["provenance"]["asv_scores"] == {"file": "asv.txt", "sha256": "a" * 64, "trials": counts}


def test_a_system_has_the_name_that_it_is_given_or_that_of_its_file():
    names = [evaluate_corpus(**options).system for options in ({"system": "mine"}, {})]
    assert names == ["mine", "scores"]


def test_intervals_are_of_95_percent():
    labels = np.arange(60) < 30
    scores = np.random.default_rng(0).normal(size=60) + 2 * labels
    found = evaluate(make_joined(scores, labels), EvaluationPlan("X"))
    (interval,) = found.measures[0].intervals
    assert interval.level == found.provenance["intervals"]["level"] == 0.95


def test_the_thinned_curve_keeps_its_ends_and_passes_through_the_eer():
    curve = evaluate_corpus().curve
    assert (curve.frr[0], curve.far[0], curve.frr[-1], curve.far[-1]) == (0, 1, 1, 0)
    gap = np.abs(curve.frr - curve.far)
    assert (curve.frr + curve.far)[gap.argmin()] / 2 == pytest.approx(evaluate_corpus().eer, abs=2e-3)


def test_a_calibration_fitted_on_one_file_makes_ratios_of_another(tmp_path):
    calibration = fit_calibration(make_corpus(seed=5))
    save_calibration(tmp_path / "calibration.json", calibration)
    assert load_calibration(tmp_path / "calibration.json") == calibration
    raw, calibrated = evaluate_corpus(), evaluate_corpus(calibration=calibration)
    assert calibrated.is_calibrated
    assert calibrated.eer == raw.eer
    least = calibrated.measure("min_cllr").value
    assert least < calibrated.measure("cllr").value < least + 0.05 < raw.measure("cllr").value


def test_calibration_errors_name_the_file(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"method": "magic"}')
    for path, error in (
        ("broken.json", ValueError),
        ("other.json", ValueError),
        ("absent.json", FileNotFoundError),
    ):
        with pytest.raises(error, match=path):
            load_calibration(tmp_path / path)
    with pytest.raises(ValueError, match=r"scores\.txt: no spoofed"):
        fit_calibration(make_joined(np.array([1.0, 2.0]), np.array([1, 1])))
    with pytest.raises(ValueError, match="logistic or pav"):
        fit_calibration(make_corpus(), method="magic")
    assert isinstance(fit_calibration(make_corpus(), "logistic"), LogisticCalibration)


def test_minispoof_is_broken_down_like_the_published_tables(reference_dir):
    root = reference_dir / "minispoof"
    track = load_tracks(PROJECT_ROOT / "configs" / "minispoof.tracks.yaml")["LA"]
    key = track.key(root)
    joined = join_scores(read_scores(root / "baseline_scores/lfcc_gmm.eval.txt"), key)
    everything = evaluate(joined, EvaluationPlan("LA", breakdown=("attack",)))
    assert round(100 * everything.eer, 1) == 40.6
    cells = find_breakdown(everything, "attack").cells
    assert [round(100 * cell.eer, 1) for cell in cells] == [40.2, 36.5, 44.0, 44.1]
    asv = track.asv_scores(root)
    found = evaluate(joined, EvaluationPlan("LA", subset="eval", breakdown=track.breakdown, asv=asv))
    crossed = find_breakdown(found, "attack", "codec")
    assert len(crossed.cells) == 5 * 8
    assert all(cell.min_tdcf is not None for cell in crossed.cells)


def test_values_that_are_one_number_have_one_order():
    column = Categories.encode(pa.array(["S01", "S10", "S1", "S001", "S2"]))
    values, codes = order_values(column)
    assert values == ("S001", "S01", "S1", "S2", "S10")
    assert [values[code] for code in codes] == ["S01", "S10", "S1", "S001", "S2"]
