"""Score files in the forms of others, each over every delimiter, with and without names in the first line."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sls.data.tables.columns import Texts
from sls.data.tables.protocols import Protocol
from sls.data.tables.score_files import JoinedScores, join_scores, read_scores

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1], np.int8)
NAMES = [f"u{place}.wav" for place in range(len(LABELS))]
SCORES = [place * 0.731 - 2.1 for place in range(len(LABELS))]
KEY = Protocol(Path("key.csv"), "", Texts.encode(NAMES), LABELS, spellings={"real": 1, "fake": 0})
COLUMNS = {
    "trial": NAMES,
    "attack": ["-" if label else f"A0{label + 7}" for label in LABELS],
    "score0": [f"{-score:.4f}" for score in SCORES],
    "score1": [f"{score:.4f}" for score in SCORES],
    "label": [str(label) for label in LABELS],
    "key": ["bonafide" if label else "spoof" for label in LABELS],
}
DELIMITERS = [",", ", ", "\t", ";", "|", " "]


def read(
    folder: Path, columns: Sequence[Sequence[str]], delimiter: str = " ", column: str = ""
) -> JoinedScores:
    path = folder / "scores.txt"
    path.write_text("".join(f"{delimiter.join(row)}\n" for row in zip(*columns, strict=True)))
    return join_scores(read_scores(path, column=column), KEY)


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("has_header", [False, True])
def test_a_score_that_is_counted_or_named_is_taken_from_any_table(tmp_path, delimiter, has_header):
    others = ["attack", "score0", "label", "key"]
    for size in range(4):
        for chosen in itertools.permutations(others, size):
            names = ["trial", *chosen, "score1"]
            columns = [[name, *COLUMNS[name]] if has_header else COLUMNS[name] for name in names]
            wanted = [str(len(names)), "score1"] if has_header else [str(len(names))]
            for column in wanted:
                joined = read(tmp_path, columns, delimiter, column)
                np.testing.assert_array_equal(joined.scores, [float(text) for text in COLUMNS["score1"]])


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("has_header", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        ("trial", "score0", "score1"),
        ("trial", "score0", "score1", "label"),
        ("trial", "score0", "label", "score1"),
        ("trial", "label", "score0", "score1"),
        ("trial", "attack", "score0", "score1"),
        ("trial", "score1", "label"),
        ("trial", "label", "score1"),
        ("trial", "score0", "score1", "attack", "key"),
    ],
)
def test_more_than_one_score_is_refused_with_the_remedy(tmp_path, delimiter, has_header, names):
    columns = [[name, *COLUMNS[name]] if has_header else COLUMNS[name] for name in names]
    with pytest.raises(ValueError, match=r"scores\.txt.*score_column="):
        read(tmp_path, columns, delimiter)


SPELLINGS = [
    ("spoof", "bonafide"),
    ("spoof", "bona-fide"),
    ("fake", "real"),
    ("Spoof", "Bonafide"),
    ("0", "1"),
    ("1", "0"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_labels_that_agree_with_the_key_pass_and_unknown_ones_say_nothing(tmp_path, spelling):
    labels = [spelling[label] for label in LABELS]
    for hidden in range(len(LABELS)):
        shown = ["-" if place < hidden else label for place, label in enumerate(labels)]
        joined = read(tmp_path, [NAMES, COLUMNS["attack"], shown, COLUMNS["score1"]])
        np.testing.assert_array_equal(joined.scores, [float(text) for text in COLUMNS["score1"]])


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("wrong", [1, 3, len(LABELS)])
def test_labels_that_contradict_the_key_are_refused(tmp_path, spelling, wrong):
    if set(spelling) == {"0", "1"} and wrong == len(LABELS):
        return  # the other way to count
    labels = [spelling[1 - label if place < wrong else label] for place, label in enumerate(LABELS)]
    with pytest.raises(ValueError, match=rf"'u\d\.wav', expected .*key\.csv; \d of {len(LABELS)} contradict"):
        read(tmp_path, [NAMES, COLUMNS["attack"], labels, COLUMNS["score1"]])
    headed = [["file", *NAMES], ["score", *COLUMNS["score1"]], ["label", *labels]]
    with pytest.raises(ValueError, match="contradict"):
        read(tmp_path, headed, ",", "score")


def test_what_is_no_label_stands_in_the_place_of_none(tmp_path):
    with pytest.raises(ValueError, match=r"found label 'A07'.*score_column="):
        read(tmp_path, [NAMES, COLUMNS["key"], COLUMNS["attack"], COLUMNS["score1"]])


def test_decisions_of_a_system_are_no_labels(tmp_path, caplog):
    decisions = ["spoof"] * len(NAMES)
    columns = [["file", *NAMES], ["score", *COLUMNS["score1"]], ["prediction", *decisions]]
    assert len(read(tmp_path, columns, ",", "score")) == len(NAMES)
    assert "4 of 8 contradict" in caplog.text


@pytest.mark.parametrize("column", ["3", "score1"])
def test_a_file_of_one_score_needs_no_column_beside_others_that_do(tmp_path, column):
    joined = read(tmp_path, [NAMES, COLUMNS["score1"]], column=column)
    np.testing.assert_array_equal(joined.scores, [float(text) for text in COLUMNS["score1"]])
    headed = [["filename", *NAMES], ["cm-score", *COLUMNS["score1"]]]
    for delimiter in (" ", "\t"):
        np.testing.assert_array_equal(read(tmp_path, headed, delimiter, column).scores, joined.scores)


def test_the_log_of_a_baseline_is_named_and_can_be_taken(tmp_path):
    for labels in (COLUMNS["label"], ["0"] * len(NAMES)):
        columns = [["Output"] * len(NAMES), NAMES, labels, COLUMNS["score1"]]
        with pytest.raises(ValueError, match=r"log of .*baseline.*score_column=4"):
            read(tmp_path, columns, ", ")
        joined = read(tmp_path, columns, ", ", "4")
        np.testing.assert_array_equal(joined.scores, [float(text) for text in COLUMNS["score1"]])
    (tmp_path / "log.txt").write_text("Generating 8,\nOutput, u0.wav, 0, 0.5\n")
    with pytest.raises(ValueError, match=r"log\.txt: found the log of"):
        read_scores(tmp_path / "log.txt")


def test_one_score_between_other_marks_is_refused_with_the_remedy(tmp_path):
    for delimiter in (",", ", ", ";", "|"):
        with pytest.raises(ValueError, match=r"scores\.txt.*score_column="):
            read(tmp_path, [NAMES, COLUMNS["score1"]], delimiter)
        assert len(read(tmp_path, [NAMES, COLUMNS["score1"]], delimiter, "2")) == len(NAMES)


@pytest.mark.parametrize("column", ["0", "4", "scores", "u0.wav", "1"])
def test_a_column_that_is_not_there_or_no_score_is_named(tmp_path, column):
    with pytest.raises(ValueError, match=rf"score_column: found '?{re.escape(column)}"):
        read(tmp_path, [NAMES, COLUMNS["score0"], COLUMNS["score1"]], ",", column)


@pytest.mark.parametrize("ending", ["", ".flac"])
def test_names_of_another_ending_are_found_where_the_score_is_named(tmp_path, ending):
    names = [name.removesuffix(".wav") + ending for name in NAMES]
    with pytest.raises(ValueError, match=r"endings.*score_column=2"):
        read(tmp_path, [names, COLUMNS["score1"]])
    joined = read(tmp_path, [names, COLUMNS["score1"]], column="2")
    np.testing.assert_array_equal(joined.scores, [float(text) for text in COLUMNS["score1"]])


def test_a_passing_copy_is_named_by_where_the_user_finds_it(tmp_path, caplog):
    for content in ("", "a\n", "a 1 2\n", "a 1\na 2\n", "a x\n", "a A07 0.5 0.7\n", "a 1\nb\n"):
        (tmp_path / "scores.txt").write_text(content)
        with pytest.raises(ValueError, match=r"^runs:/1/scores\.txt") as raised:
            read_scores(tmp_path / "scores.txt", "runs:/1/scores.txt")
        assert str(tmp_path) not in str(raised.value)
    (tmp_path / "scores.txt").write_text("a 1\nb 2.5")
    read_scores(tmp_path / "scores.txt", "runs:/1/scores.txt")
    assert "runs:/1/scores.txt:2: found '2.5' and no line end" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize(
    ("line", "column", "score"),
    [
        ("T_0,4,spoof,-1.8743", "4", -1.8743),
        ("T_0,3,0.25", "3", 0.25),
        ("T_0 4 spoof 0.25", "4", 0.25),
        ("2 0.25", "2", 0.25),
        ("1 2 0.5", "3", 0.5),
    ],
)
def test_a_number_is_a_place_whatever_the_first_line_holds(
    tmp_path, line: str, column: str, score: float
) -> None:
    path = tmp_path / "scores.txt"
    path.write_text(f"{line}\n")
    found = read_scores(path, column=column)
    assert found.scores.tolist() == pytest.approx([score])
    assert len(found) == 1
