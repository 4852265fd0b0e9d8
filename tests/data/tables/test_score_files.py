from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sls.data.corpora.tracks import load_formats
from sls.data.tables.columns import Columns, Texts
from sls.data.tables.protocols import Protocol, read_protocol
from sls.data.tables.score_files import (
    ScoreTable,
    check_names,
    format_score,
    join_scores,
    lay_out,
    read_scores,
)


def make_key(names: list[str], subsets: list[str] | None = None) -> Protocol:
    fields = Columns({}) if subsets is None else Columns.encode({"subset": subsets})
    labels = np.arange(len(names)) % 2
    return Protocol(Path("key.txt"), "", Texts.encode(names), labels.astype(np.int8), fields)


def make_table(names: list[str], scores: list[float]) -> ScoreTable:
    return ScoreTable(Texts.encode(names), np.array(scores), Path("scores.txt"), "")


def write(folder: Path, content: str) -> Path:
    path = folder / "scores.txt"
    path.write_text(content)
    return path


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_a_score_comes_back_as_the_same_float32(tmp_path, values):
    scores = np.array(values, dtype=np.float32)
    names = [f"trial{index}" for index in range(len(scores))]
    lines = [f"{name} {format_score(score)}\n" for name, score in zip(names, scores, strict=True)]
    table = read_scores(write(tmp_path, "".join(lines)))
    assert table.names.tolist() == names
    np.testing.assert_array_equal(table.scores.astype(np.float32), scores)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(
    lambda name: name == name.strip()
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=10, unique=True))
def test_a_name_with_spaces_comes_back_as_it_was(tmp_path, names):
    lines = [f"{name} 0.{place}5\n" for place, name in enumerate(names)]
    table = read_scores(write(tmp_path, "".join(lay_out(lines))))
    assert table.names.tolist() == names
    assert table.scores.tolist() == [float(f"0.{place}5") for place in range(len(names))]


def test_names_without_spaces_are_written_as_ever():
    assert "".join(lay_out(["a 1\n", "b 2\n"])) == "a 1\nb 2\n"
    assert "".join(lay_out(["a 1\n", "b c 2\n"])) == "filename\tcm-score\na\t1\nb c\t2\n"


def test_a_score_has_the_digits_that_float32_needs():
    assert [format_score(score) for score in np.float32([-13.842713, 0.1, 2])] == [
        "-13.8427134",
        "0.100000001",
        "2",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "found no score"),
        (["a", "b", "a"], "found trial 'a' twice"),
        (["a\tb"], r"found trial name 'a\\tb'"),
        (["a\nb"], r"found trial name 'a\\nb'"),
        ([" a"], "found trial name ' a'"),
        ([""], "found trial name ''"),
    ],
)
def test_names_that_a_score_file_cannot_hold_are_refused(names, message):
    with pytest.raises(ValueError, match=rf"^scores\.txt: {message}"):
        check_names("scores.txt", names)


@pytest.mark.parametrize(
    "content",
    [
        "t1 0.5\nt2 -1e-3\n",
        "t1 0.5\r\nt2 -1e-3\r\n",
        "filename\tcm-score\nt1\t0.5\nt2\t-1e-3\n",
        "cm-score filename\n0.5 t1\n-1e-3 t2\n",
        "t1 A07 spoof 0.5\nt2 - bonafide -1e-3\n",
    ],
)
def test_the_forms_of_the_challenges_are_read(tmp_path, content):
    table = read_scores(write(tmp_path, content))
    assert (table.names.tolist(), table.scores.tolist()) == (["t1", "t2"], [0.5, -1e-3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("t1 0.5\nt2\n", r":2: found 1 column, expected 2"),
        ("t1 0.5\nt2 x\n", r":2: found 'x', expected .*number"),
        ("t1 0.5\nt2 nan\n", r":2: found 'nan'"),
        ("t1 0.5\nt2 1\nt1 0.5\n", r":3: found trial 't1' .*line 1\b"),
        ("filename cm-score\nt1 0.5\nt1 1\n", r":3: found trial 't1' .*line 2\b"),
        ("t1 0.5 1\n", r":1: found 3 columns"),
        ("", r": found an empty file, expected .*filename, cm-score"),
    ],
)
def test_a_score_file_with_a_mistake_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_scores(write(tmp_path, content))


def test_scores_are_put_in_the_order_of_the_key():
    joined = join_scores(make_table(["c", "a", "b"], [3, 1, 2]), make_key(["a", "b", "c"]))
    assert joined.scores.tolist() == [1, 2, 3]
    assert joined.coverage.is_complete


def test_a_subset_is_selected_after_the_join():
    key = make_key(["a", "b", "c", "d"], ["eval", "progress", "eval", "hidden"])
    everything = join_scores(make_table(["d", "c", "b", "a"], [4, 3, 2, 1]), key)
    joined = everything.select_subset("eval")
    assert joined.scores.tolist() == [1, 3]
    assert joined.key.names.tolist() == ["a", "c"]
    assert everything.select_subset("all").scores.tolist() == [1, 2, 3, 4]


def test_scores_of_the_evaluated_subset_alone_are_whole():
    key = make_key(["a", "b", "c", "d"], ["eval", "progress", "eval", "hidden"])
    joined = join_scores(make_table(["c", "a"], [3, 1]), key, subset="eval")
    assert joined.coverage.is_complete
    assert joined.select_subset("eval").scores.tolist() == [1, 3]
    with pytest.raises(ValueError, match=r": 1 trial .*\(c\).*\b2 trials of key\.txt, subset eval; .*\b2\b"):
        join_scores(make_table(["b", "a"], [3, 1]), key, subset="eval")
    with pytest.raises(ValueError, match=r": 1 score .*\(x\)"):
        join_scores(make_table(["x", "c", "a"], [9, 3, 1]), key, subset="eval")


def test_a_trial_without_a_score_is_an_error_with_count_and_examples():
    found = r"^scores\.txt: 4 trials .*\(b, c, d, \.\.\.\)"
    expected = r"expected .*\b5 trials of key\.txt; allow_partial=true .*\b1\b"
    with pytest.raises(ValueError, match=f"{found}.*{expected}"):
        join_scores(make_table(["a"], [1]), make_key(["a", "b", "c", "d", "e"]))


def test_a_score_without_a_trial_is_an_error_with_count_and_examples():
    with pytest.raises(ValueError, match=r"scores\.txt: 1 score .*\(c\).*expected"):
        join_scores(make_table(["a", "b", "c"], [1, 2, 3]), make_key(["a", "b"]))


def test_both_mismatches_are_told_at_once():
    with pytest.raises(ValueError, match=r"\b1 trial .*\(b\).* 1 score .*\(b\.wav\)"):
        join_scores(make_table(["a", "b.wav"], [1, 2]), make_key(["a", "b"]))


def test_names_that_differ_in_their_endings_alone_are_recognised():
    with pytest.raises(ValueError, match=r"of key\.txt; .*folders or endings"):
        join_scores(make_table(["a.flac", "b.flac"], [1, 2]), make_key(["a", "b"]))
    with pytest.raises(ValueError, match=r"of key\.txt$"):
        join_scores(make_table(["a.flac", "c.flac"], [1, 2]), make_key(["a", "b"]))


def test_a_partial_join_keeps_what_both_have_and_says_how_much():
    joined = join_scores(
        make_table(["x", "c", "a"], [9, 3, 1]), make_key(["a", "b", "c"]), allow_partial=True
    )
    assert joined.scores.tolist() == [1, 3]
    assert joined.key.names.tolist() == ["a", "c"]
    assert (joined.coverage.scored, joined.coverage.keyed, joined.coverage.joined) == (3, 3, 2)
    assert not joined.coverage.is_complete


def test_a_partial_join_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no score"):
        join_scores(make_table(["x"], [9]), make_key(["a", "b"]), allow_partial=True)


@pytest.mark.parametrize("name", ["scores_paper.txt", "scores_v1.txt", "scores_v2.txt"])
def test_real_scores_of_in_the_wild_join_the_real_key(reference_dir, name):
    folder = reference_dir / "in_the_wild"
    key = read_protocol(folder / "in_the_wild_key.txt", load_formats()["in-the-wild-key"])
    joined = join_scores(read_scores(folder / name), key)
    assert joined.coverage.is_complete
    assert len(joined) == 31_779
    labels = joined.key.labels
    assert labels is not None
    assert joined.scores[labels == 1].mean() > joined.scores[labels == 0].mean()


def test_real_scores_of_asvspoof2019_are_read(reference_dir):
    table = read_scores(reference_dir / "asvspoof2019" / "cm_scores" / "air_softmax.LA.eval.txt")
    assert len(table) == 71_237
    assert table.names[0] == "LA_E_2834763"
    assert table.scores[0] == 0.00826383288949728
