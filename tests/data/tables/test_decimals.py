import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sls.data.tables import decimals
from sls.data.tables.decimals import parse_floats
from sls.data.tables.text_columns import Texts

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.from_regex(r"[-+]?[0-9]{0,17}\.?[0-9]{0,17}", fullmatch=True)


def parse(texts: list[str]) -> np.ndarray:
    return parse_floats(Texts.encode(texts).padded_bytes())


def python_reads(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


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
    np.testing.assert_array_equal(parse(texts).view(np.uint64), expected.view(np.uint64))


def test_many_numbers_are_read_block_by_block(monkeypatch):
    monkeypatch.setattr(decimals, "_BLOCK_ROWS", 7)
    values = np.random.default_rng(0).normal(size=100)
    np.testing.assert_array_equal(parse([repr(value) for value in values.tolist()]), values)


@pytest.mark.parametrize(
    "text", ["1" + "0" * 256, "0." + "1" * 256, f"{0.7:.260f}", "1" * 25, "0." + "0" * 22, "-" + "9" * 24]
)
def test_long_numbers_are_read_to_the_bits_of_python(text):
    assert parse([text, "1.5"]).tolist() == [float(text), 1.5]


def test_plain_numbers_are_read_at_once(monkeypatch):
    texts = [
        "7",
        "-2.5",
        "+.5",
        "3.",
        "-13.8427134",
        "123456789012.345",
        "0.12345678901234",
        "-00000000000.001",
    ]
    monkeypatch.delattr(decimals, "_float_or_nan")  # what reads a text by itself
    assert parse(texts).tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("text", ["959155387102.7243", "9.101795703979683", "92.087591280499259"])
def test_more_digits_than_float64_holds_are_rounded_once(text):
    assert parse([text]).tolist() == [float(text)]


@pytest.mark.parametrize(
    "text", ["", "-", ".", "+.", "1-", "1.2.3", "--1", "1_000", "abc", "a1", "1e", "0x1", "\u0661"]
)
def test_what_is_no_number_is_nan(text):
    found = parse(["1", text, "2.5"])
    assert np.isnan(found).tolist() == [False, True, False]
    assert found[[0, 2]].tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("text", "expected"), [("-0", -0.0), ("+1.", 1.0), (".5", 0.5), ("1e-3", 0.001), ("inf", np.inf)]
)
def test_unusual_spellings_are_read(text, expected):
    (found,) = parse([text])
    assert (found, np.signbit(found)) == (expected, np.signbit(expected))
