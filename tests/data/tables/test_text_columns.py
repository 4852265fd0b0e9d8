import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sls.data.tables import text_columns
from sls.data.tables.text_columns import Categories, Texts

STRINGS = st.text(st.characters(exclude_categories=("C",)), max_size=20)
COLUMNS = st.lists(STRINGS, max_size=30)


@pytest.fixture(params=["hashes apart", "one hash for all"])
def clashes(request, monkeypatch):
    """Once with hashes that tell texts apart, once with hashes that tell nothing."""
    if request.param == "one hash for all":
        monkeypatch.setattr(Texts, "hashes", property(lambda column: np.zeros(len(column), np.uint64)))


@given(COLUMNS)
def test_texts_come_back(strings):
    column = Texts.encode(strings)
    assert column.tolist() == list(column) == strings
    assert [column[row] for row in range(len(column))] == strings
    assert column[np.arange(len(column))[::-1]].tolist() == column[::-1].tolist() == strings[::-1]


@pytest.mark.usefixtures("clashes")
def test_texts_are_found_where_they_stand():
    column = Texts.encode(["LA_E_1000001", "b", "LA_E_1000002", "LA_E_1"])
    wanted = Texts.encode(["b", "x", "LA_E_1000002", "LA_E_1000001", "LA_E_100000", "b", ""])
    assert column.find(wanted).tolist() == [1, -1, 2, 0, -1, 1, -1]
    assert column.find(column).tolist() == [0, 1, 2, 3]
    assert Texts.encode([]).find(column).tolist() == [-1] * 4
    assert column.find(Texts.encode([])).tolist() == []


@given(COLUMNS, COLUMNS)
def test_texts_are_found_as_a_dictionary_finds_them(strings, wanted):
    strings = list(dict.fromkeys(strings))
    rows = {text: row for row, text in enumerate(strings)}
    found = Texts.encode(strings).find(Texts.encode(wanted))
    assert found.tolist() == [rows.get(text, -1) for text in wanted]


@pytest.mark.usefixtures("clashes")
@pytest.mark.parametrize(
    ("strings", "expected"),
    [([], True), (["a"], True), (["a", "b", "a" * 9], True), (["a" * 9, "b", "a" * 9], False)],
)
def test_a_text_that_stands_twice_is_seen(strings, expected):
    assert Texts.encode(strings).are_distinct() is expected


@pytest.mark.usefixtures("clashes")
def test_categories_are_the_values_of_the_rows():
    strings = [
        "spoof",
        "bonafide",
        "spoof",
        "neural_vocoder_autoregressive",
        "neural_vocoder_nonautoregressive",
    ]
    found = Texts.encode(strings).categories()
    assert sorted(found.values) == sorted(set(strings))
    assert found.strings().tolist() == strings


@pytest.mark.parametrize("text", ["a\nb", "a\0b"])
def test_what_a_column_cannot_hold_is_refused(text):
    with pytest.raises(ValueError, match="expected a text without zero bytes and line ends"):
        Texts.encode(["a", text])


def test_texts_are_not_compared_or_selected_by_mistake():
    column = Texts.encode(["a", "b"])
    with pytest.raises(TypeError, match="expected differ"):
        assert column == "b"
    with pytest.raises(TypeError, match="found row True"):
        column[True]


def test_a_value_without_a_meaning_is_named():
    with pytest.raises(ValueError, match="found 'fake', expected one of: spoof"):
        Categories.encode(np.array(["spoof", "fake"], dtype=object)).numbers({"spoof": 0})


def test_a_short_text_has_one_hash_however_long_its_neighbours_are():
    assert Texts.encode(["a"]).hashes[0] == Texts.encode(["a", "b" * (3 * text_columns.WORD_BYTES)]).hashes[0]
