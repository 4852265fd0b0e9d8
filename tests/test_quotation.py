"""What messages quote is one line of bounded length, wherever it was found."""

import numpy as np
import pytest

from sls.config_file import build_config, read_config_values
from sls.data.corpora.tracks import load_tracks
from sls.data.tables.columns import Texts
from sls.data.tables.formats import TableFormat
from sls.data.tables.protocols import Label, Protocol, read_protocol
from sls.data.tables.score_files import check_names, join_scores, read_scores
from sls.quotation import MAX_QUOTED, count_of, did_you_mean, first_line, make_visible, quote, shorten

LONG = "x" * 4_000
LIST = TableFormat("list", ("trial", "label"), labels={"spoof": Label.SPOOF})


def test_a_short_value_is_quoted_whole_and_a_long_one_is_marked_as_cut():
    assert quote("a\nb") == r"'a\nb'"
    assert quote(["a", 1]) == "['a', 1]"
    assert shorten("x" * MAX_QUOTED) == "x" * MAX_QUOTED
    assert quote(LONG) == f"'{'x' * (MAX_QUOTED - 1)}...[cut]"


def test_the_nearest_name_is_asked_for_where_one_is_near():
    assert did_you_mean("trak", ["audio", "track"], "; it takes audio, track") == "; did you mean track?"
    assert did_you_mean("x", ["audio", "track"], "; it takes audio, track") == "; it takes audio, track"
    assert did_you_mean("DF_19", ["DF"]) == ""
    assert did_you_mean("DF_19", ["DF"], cutoff=0.5) == "; did you mean DF?"


def join_with_a_key(path):
    key = Protocol(path, "", Texts.encode(["a"]), np.zeros(1, np.int8))
    return join_scores(read_scores(path), key)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (f"a 1\nb {LONG}\n", read_scores),
        (f"{LONG} 2\n{LONG} 3\n", read_scores),
        (f"a {LONG} 1\n", read_scores),
        (f"{LONG} 1\n", join_with_a_key),
        (f"a {LONG}\n", lambda path: read_protocol(path, LIST)),
        ("a spoof\n", lambda path: read_protocol(path, LIST).select_subset(LONG)),
        ("", lambda path: check_names(path, [f"{LONG}\t{LONG}"])),
        (f"lr: {LONG}\n", lambda path: build_config(read_config_values(path))),
        (f"tracks: {LONG}\n", load_tracks),
    ],
)
def test_no_message_quotes_more_than_the_beginning_of_what_was_found(tmp_path, content, read):
    path = tmp_path / "found.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x{60}.*\.\.\.\[cut\]") as caught:
        read(path)
    assert len(str(caught.value)) < 400


def test_no_more_of_a_value_is_written_than_is_quoted():
    shared: object = 1
    for _ in range(60):
        shared = [shared, {"a": (shared,)}]  # 2 ** 60 leaves
    itself: list[object] = []
    itself.append(itself)
    for value in (shared, itself, [1] * 10**6, 1 << 100_000):
        assert len(quote(value)) < 2 * MAX_QUOTED
    for value in ([], {}, (), (1,), [None, {"a": (1, 2.5), 3: b"x"}], {1}, np.float64(2)):
        assert quote(value) == repr(value)


def test_of_what_a_library_says_the_first_line_is_told_or_the_kind():
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("a\nb")) == "a"
    assert len(first_line(ValueError(LONG))) < 500


@pytest.mark.parametrize(
    ("number", "names", "expected"),
    [(0, ("file",), "0 files"), (1, ("file",), "1 file"), (2, ("process", "processes"), "2 processes")],
)
def test_one_thing_is_counted_in_the_singular(number, names, expected):
    assert count_of(number, *names) == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.wav", "a b.wav"),
        ("Gespräch \N{GRINNING FACE}", "Gespräch \N{GRINNING FACE}"),
        ("a\nb\x1b[31m", r"a\nb\x1b[31m"),
        ("\u202eabc", r"\u202eabc"),
        ("\udcff", r"\udcff"),
    ],
)
def test_a_name_is_shown_without_what_a_screen_obeys_or_no_file_holds(name: str, shown: str) -> None:
    assert make_visible(name) == shown
