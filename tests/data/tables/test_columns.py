"""Tests of `columns`."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sls.data.tables.columns import Categories, Texts

STRINGS = st.text(st.characters(exclude_categories=("C",)), max_size=20)
COLUMNS = st.lists(STRINGS, max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.from_regex(r"[-+]?[0-9]{0,17}\.?[0-9]{0,17}", fullmatch=True)


@settings(deadline=None)
@given(COLUMNS)
def test_texts_come_back(strings):
    column = Texts.encode(strings)
    assert column.tolist() == list(column) == strings
    assert [column[row] for row in range(len(column))] == strings
    assert column[np.arange(len(column))[::-1]].tolist() == column[::-1].tolist() == strings[::-1]


def test_texts_are_found_where_they_stand():
    column = Texts.encode(["LA_E_1000001", "b", "LA_E_1000002", "LA_E_1"])
    wanted = Texts.encode(["b", "x", "LA_E_1000002", "LA_E_1000001", "LA_E_100000", "b", ""])
    assert column.find(wanted).tolist() == [1, -1, 2, 0, -1, 1, -1]
    assert column.find(column).tolist() == [0, 1, 2, 3]
    assert Texts.encode([]).find(column).tolist() == [-1] * 4
    assert column.find(Texts.encode([])).tolist() == []


@settings(deadline=None)
@given(COLUMNS, COLUMNS)
def test_texts_are_found_as_a_dictionary_finds_them(strings, wanted):
    strings = list(dict.fromkeys(strings))
    rows = {text: row for row, text in enumerate(strings)}
    found = Texts.encode(strings).find(Texts.encode(wanted))
    assert found.tolist() == [rows.get(text, -1) for text in wanted]


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        (["a"], True),
        (["a", "b", "a" * 9], True),
        (["a" * 9, "b", "a" * 9], False),
        ([], True),
        (["é", "e", "\u00e8"], True),
    ],
)
def test_a_text_that_stands_twice_is_seen(strings, expected):
    assert Texts.encode(strings).are_distinct() is expected


def test_texts_of_one_hash_are_told_apart():
    """Searches the texts of 16 bytes, two words, for one with the hash of another."""
    factor, first, second = 0x9E3779B97F4A7C15, "LA_E_100", "0001.wav"
    words = [int.from_bytes(text.encode(), "little") for text in (first, second)]
    for number in range(1_000_000):
        other = f"{number:08d}"[::-1]
        gap = words[0] - int.from_bytes(other.encode(), "little")
        rest = ((words[1] + gap * pow(factor, -1, 2**64)) % 2**64).to_bytes(8, "little")
        if all(33 <= code <= 126 for code in rest):
            break
    strings = [first + second, other + rest.decode()]
    assert Texts.encode(strings).are_distinct()
    assert not Texts.encode([*strings, strings[0]]).are_distinct()
    assert Texts.encode(strings).find(Texts.encode(["x", *strings[::-1], ""])).tolist() == [-1, 1, 0, -1]


def test_categories_are_the_values_of_the_rows():
    strings = [
        "spoof",
        "bonafide",
        "spoof",
        "neural_vocoder_autoregressive",
        "neural_vocoder_nonautoregressive",
    ]
    found = Categories.encode(pa.array(strings))
    assert sorted(found.values) == sorted(set(strings))
    assert found.strings().tolist() == strings


def test_texts_are_not_compared_by_mistake():
    column = Texts.encode(["a", "b"])
    with pytest.raises(TypeError, match="expected differ"):
        assert column == "b"


def python_reads(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            FLOATS.map(repr),
            FLOATS.map("{:.9g}".format),
            st.floats(-1e3, 1e3).map("{:.6f}".format),
            PLAIN,
        ),
        max_size=40,
    )
)
def test_numbers_are_read_to_the_bits_of_python(texts):
    expected = np.array([python_reads(text) for text in texts])
    np.testing.assert_array_equal(Texts.encode(texts).floats().view(np.uint64), expected.view(np.uint64))


@pytest.mark.parametrize(
    "text", ["1" + "0" * 256, "0." + "1" * 256, f"{0.7:.260f}", "1" * 25, "0." + "0" * 22, "-" + "9" * 24]
)
def test_long_numbers_are_read_to_the_bits_of_python(text):
    assert Texts.encode([text, "1.5"]).floats().tolist() == [float(text), 1.5]


@pytest.mark.parametrize("text", ["959155387102.7243", "9.101795703979683", "92.087591280499259"])
def test_more_digits_than_float64_holds_are_rounded_once(text):
    assert Texts.encode([text]).floats().tolist() == [float(text)]


@pytest.mark.parametrize(
    "text", ["", "-", ".", "+.", "1-", "1.2.3", "--1", "1_000", "abc", "a1", "1e", "0x1", "\u0661"]
)
def test_what_is_no_number_is_nan(text):
    found = Texts.encode(["1", text, "2.5"]).floats()
    assert np.isnan(found).tolist() == [False, True, False]
    assert found[[0, 2]].tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("text", "expected"), [("-0", -0.0), ("+1.", 1.0), (".5", 0.5), ("1e-3", 0.001), ("inf", np.inf)]
)
def test_unusual_spellings_are_read(text, expected):
    (found,) = Texts.encode([text]).floats()
    assert (found, np.signbit(found)) == (expected, np.signbit(expected))


@pytest.mark.parametrize("text", ["+1.5", "1_000"])
def test_a_number_in_a_spelling_of_its_own_leaves_the_others_as_they_are(text):
    found = Texts.encode(["0.1", text, "1e-3"]).floats()
    assert (found[0], found[2]) == (0.1, 0.001)
    np.testing.assert_equal(found[1], 1.5 if text == "+1.5" else np.nan)
