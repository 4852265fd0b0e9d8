"""Tests of `text_table` and `separated_text`, by reading whole tables."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sls.data.tables.formats import WHITESPACE, TableFormat, read_first_line, split_line
from sls.data.tables.text_table import Table, read_table


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "table.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, delimiter: str = WHITESPACE, *, header: bool = False) -> Table:
    """Reads all columns of a file, by the names in its first line, or as `trial`, `1`, `2`, ..."""
    line = split_line(read_first_line(path), delimiter) if path.is_file() else []
    names = tuple(line) if header else ("trial", *map(str, range(1, len(line))))[: len(line)]
    return read_table(path, TableFormat("any", names, names if header else (), delimiter))


def rows_of(table: Table) -> list[tuple[str, ...]]:
    return list(zip(*(table.texts(name).tolist() for name in table.places), strict=True))


FIELDS = st.text(st.characters(exclude_categories=("C",), exclude_characters='" '), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.tuples(*[FIELDS] * width), min_size=1, max_size=30)
    )
)
def test_every_field_is_read_as_a_plain_split_reads_it(tmp_path, rows):
    text = "\n".join(" ".join(row) for row in rows)
    table = read(write(tmp_path, text))
    expected = [tuple(line.split(" ")) for line in text.split("\n")]
    assert rows_of(table) == expected
    for column, name in enumerate(table.places):
        assert table.categories(name).strings().tolist() == [row[column] for row in expected]


@pytest.mark.parametrize(
    "content",
    [
        "a b\nc d\n",
        "a b\nc d",
        "a b\r\nc d\r\n",
        "a b\rc d\r",
        "a b\nc d\n\n\n",
        "\ufeffa b\nc d\n",
        "a  b\nc\td\n",
        "  a b \nc d  \n",
        "a b\nc d\n  \n \t \n",
    ],
)
def test_line_ends_marks_and_runs_of_spaces_change_nothing(tmp_path, content):
    assert rows_of(read(write(tmp_path, content))) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("a b c\nd e\nf g h\n", 2, "2 columns, expected 3"),
        ("a b c\nd e f g\nh i\n", 2, "4 columns, expected 3"),  # as many fields in all as there should be
        ("a b c\n\nd e f\n", 2, "an empty line, expected 3 columns"),
        ("a b c\nd e f\n   \ng h i\n", 3, "an empty line, expected 3 columns"),
        (
            "a b c\nd e\u00a0f\n",
            2,
            "2 columns, expected 3",
        ),  # a no-break space, as editors put it, parts nothing
    ],
)
def test_a_line_with_another_number_of_columns_is_named(tmp_path, content, line, found):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match="columns") as caught:
        read(path)
    assert re.fullmatch(rf"{re.escape(str(path))}:{line}: found {found}\b.* line 1", str(caught.value))


def test_quoted_fields_may_hold_the_delimiter_and_empty_fields_stay(tmp_path):
    path = write(tmp_path, 'file,speaker,label\n0.wav,"King, Martin",spoof\n1.wav,,bona-fide\n')
    table = read(path, ",", header=True)
    assert tuple(table.places) == ("file", "speaker", "label")
    assert rows_of(table) == [("0.wav", "King, Martin", "spoof"), ("1.wav", "", "bona-fide")]
    assert table.line(0) == 2


@pytest.mark.parametrize("label", ["spoof", '"spoof"'])
def test_spaces_about_a_comma_are_no_part_of_a_field(tmp_path, label):
    path = write(tmp_path, f"file, speaker ,label\n0.wav ,Alec Guinness, {label}\n")
    table = read(path, ",", header=True)
    assert tuple(table.places) == ("file", "speaker", "label")
    assert rows_of(table) == [("0.wav", "Alec Guinness", "spoof")]


@pytest.mark.parametrize(
    "row", ["0.wav, A,spoof ", " 0.wav,A,spoof", '0.wav,A,"spoof" ', "  0.wav,A , spoof  "]
)
@pytest.mark.parametrize("end", ["\n", "", "\r\n", "\n  \n"])
def test_spaces_at_both_ends_of_a_line_are_no_part_of_a_field(tmp_path, row, end):
    table = read(write(tmp_path, f" file,speaker,label \n{row}\n{row}{end}"), ",", header=True)
    assert tuple(table.places) == ("file", "speaker", "label")
    assert rows_of(table) == [("0.wav", "A", "spoof")] * 2


def test_a_line_of_spaces_between_rows_is_named(tmp_path):
    path = write(tmp_path, "0.wav,A\n  \n1.wav,B\n")
    with pytest.raises(ValueError, match=r"table.txt:2: found an empty line, expected 2\b.* line 1\b"):
        read(path, ",")


def test_a_column_that_a_header_names_twice_is_an_error(tmp_path):
    path = write(tmp_path, "file,label,label\n0.wav,spoof,bona-fide\n")
    with pytest.raises(ValueError, match=r"table.txt:1: found column 'label' twice"):
        read(path, ",", header=True)


def test_a_name_of_a_column_that_goes_on_in_the_next_line_is_another_name(tmp_path):
    form = TableFormat("any", ("trial", "label"), ("file", "label"), ",")
    with pytest.raises(ValueError, match=r"table.txt:1: found .*'file', 'label x', expected"):
        read_table(write(tmp_path, 'file,"label\nx"\n0.wav,spoof\n'), form)


def test_fields_between_commas_keep_their_spaces(tmp_path):
    table = read(write(tmp_path, "0.wav,Alec Guinness\n1.wav,Barack Obama\n"), ",")
    assert table.texts("1").tolist() == ["Alec Guinness", "Barack Obama"]


def test_the_digest_is_that_of_the_file(tmp_path):
    content = b"a b\r\nc d\n\n"
    assert read(write(tmp_path, content)).digest == hashlib.sha256(content).hexdigest()


def test_numbers_are_read_exactly(tmp_path):
    numbers = [1.5, -2.25e-7, 123456.789012345, float(np.float32(0.1)), 0.0]
    path = write(tmp_path, "".join(f"{number!r}\n" for number in numbers))
    assert read(path).floats("trial").tolist() == numbers


@pytest.mark.parametrize("cut", ["t1 0.5\nt2 -3.25", "t1\t0.5\r\nt2\t-3.25"])
def test_a_number_that_ends_with_the_file_may_be_cut_and_is_warned_of(tmp_path, caplog, cut):
    table = read(write(tmp_path, cut))
    assert table.texts("1").tolist() == ["0.5", "-3.25"]
    assert not caplog.messages
    assert table.floats("1").tolist() == [0.5, -3.25]
    (warning,) = caplog.messages
    assert warning.startswith(f"{table.source}:2: found '-3.25' ")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " ", "\t"])
def test_a_number_with_something_behind_it_is_whole(tmp_path, caplog, end):
    assert read(write(tmp_path, f"t1 0.5\nt2 -3.25{end}")).floats("1").tolist() == [0.5, -3.25]
    table = read(write(tmp_path, "0.5 t1\n-3.25 t2"))
    assert table.floats("trial").tolist() == [0.5, -3.25]
    assert not caplog.messages


def test_a_quoted_number_is_whole_once_its_quote_is_closed(tmp_path, caplog):
    closed = read(write(tmp_path, 'file,score\nt1,"0.5"\nt2,"-3.25"'), ",", header=True)
    assert closed.floats("score").tolist() == [0.5, -3.25]
    assert not caplog.messages
    cut = read(write(tmp_path, 'file,score\nt1,"0.5"\nt2,"-3.2'), ",", header=True)
    assert cut.floats("score").tolist() == [0.5, -3.2]
    assert "table.txt:3: found '-3.2' " in caplog.text


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "abc", "1,5", "--1", "1_000"])
def test_what_is_no_finite_number_is_named_with_its_line(tmp_path, bad):
    path = write(tmp_path, f"t1 0.5\nt2 {bad}\nt3 1\n")
    with pytest.raises(ValueError, match="finite") as caught:
        read(path).floats("1")
    assert str(caught.value).startswith(f"{path}:2: found '{bad}', expected ")


def test_numbers_too_large_to_calculate_with_are_refused(tmp_path):
    path = write(tmp_path, "t1 1e100\nt2 -1e100\nt3 -1.7e308\n")
    with pytest.raises(ValueError, match=r"table.txt:3: found '-1.7e308', expected .*-1e\+100 to 1e\+100"):
        read(path).floats("1")


def test_long_values_that_begin_alike_stay_apart(tmp_path):
    values = [f"{'x' * 40}{index % 7}" for index in range(100)]
    assert read(write(tmp_path, "\n".join(values))).categories("trial").strings().tolist() == values


def test_bytes_that_are_not_text_are_an_error_with_their_line(tmp_path):
    path = write(tmp_path, b"a b\nc \xff\xfe\n")
    with pytest.raises(ValueError, match=r"table.txt:2: found bytes .*UTF-8"):
        read(path)


def test_a_zero_byte_is_an_error_with_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"table.txt:2: found a zero byte, expected .*UTF-8"):
        read(write(tmp_path, b"a b\nc \0d\n"))


def test_a_control_character_that_our_own_separator_is_does_not_pass_for_a_blank(tmp_path):
    with pytest.raises(ValueError, match=r"table.txt:2: .*U\+001F"):
        read(write(tmp_path, b'a,b\nc,"spo\x1fof"\n'), ",")


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="found a directory, expected"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", "\n\n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    with pytest.raises(ValueError, match="empty"):
        read(write(tmp_path, content))


def test_a_header_alone_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        read(write(tmp_path, "file,label\n"), ",", header=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        read(tmp_path / "no.txt")


@pytest.mark.parametrize("control", ["\x01", "\x05", "\x08", "\x18", "\x1b"])
def test_a_control_character_parts_no_names_and_is_part_of_none(tmp_path, control):
    for text in (f"a b\nc{control}e d\n", f"a b\n{control}c d\n", f"a b\nc d{control}\n"):
        with pytest.raises(ValueError, match=rf"table.txt:2: found .*U\+{ord(control):04X}"):
            read(write(tmp_path, text))


def test_the_first_line_is_read_without_its_end(tmp_path):
    assert read_first_line(write(tmp_path, "\ufeffa b\r\nc d\r\n")) == "a b"


@pytest.mark.parametrize("row", ["aa  bb", "aa\tbb", " aa bb", "aa bb ", "aa\x1fbb"])
@pytest.mark.parametrize("place", [2**18 - 6, 2**18 - 3, 2**18 - 2, 2**18 - 1, 2**18])
def test_blanks_of_every_kind_are_found_wherever_they_stand_in_a_large_file(tmp_path, row, place):
    before = ["a" * (place % 4 + 1) + " b", *["a b"] * (place // 4 - 1)]  # so that the row begins there
    table = read(write(tmp_path, "\n".join([*before, row, "c d"])))
    assert rows_of(table)[len(before) :] == [("aa", "bb"), ("c", "d")]


@pytest.mark.parametrize("row", ["a  b c", "a b c", "a", "  a", "", " "])
def test_a_broken_line_late_in_a_large_file_is_named(tmp_path, row):
    rows = ["a b"] * 70_000
    rows[69_000] = row
    with pytest.raises(
        ValueError, match=r"table.txt:69001: found (3 columns|1 column|an empty line), expected 2"
    ):
        read(write(tmp_path, "\n".join(rows)))


def test_columns_that_are_read_later_are_the_same(tmp_path):
    table = read(write(tmp_path, "a b c\nd e f\n"))
    assert rows_of(table) == [("a", "b", "c"), ("d", "e", "f")]


@pytest.mark.parametrize(
    "word", ["NA", "nan", "NaN", "null", "NULL", "None", "#N/A", "-", "true", "1e5", "007"]
)
@pytest.mark.parametrize("delimiter", [" ", ","])
def test_no_word_means_that_something_is_missing(tmp_path, word, delimiter):
    path = write(tmp_path, f"a{delimiter}{word}\n{word}{delimiter}b\n")
    table = read(path, "," if delimiter == "," else "whitespace")
    assert rows_of(table) == [("a", word), (word, "b")]


def test_quotes_between_blanks_are_characters_like_others(tmp_path):
    assert rows_of(read(write(tmp_path, 'a "b\n"c" d\n'))) == [("a", '"b'), ('"c"', "d")]


def test_columns_of_two_tables_differ_where_their_fields_do(tmp_path):
    one = read(write(tmp_path, "a LA_E_1000001\nb LA_E_1\nc x\nd y\n"))
    other = tmp_path / "other.txt"
    other.write_text("LA_E_1000001 1\nLA_E_1000001 2\nx 3\nY 4\n")
    assert one.texts("1").differ(read(other).texts("trial")).tolist() == [False, True, False, True]


def test_a_quote_that_is_never_closed_is_named(tmp_path):
    path = write(tmp_path, 'a,b\nc,"d' + "x" * 140_000 + "\n")
    with pytest.raises(ValueError, match=r"table.txt:2: found .*quoted field"):
        read(path, ",")


def test_a_field_that_would_fill_the_memory_is_named(tmp_path):
    table = read(write(tmp_path, f"a 1\n{'x' * 4_096} 2\n{'x' * 4_097} 3\n"))
    with pytest.raises(ValueError, match=r"table.txt:3: found .*\b4097 bytes, expected .*\b4096"):
        table.texts("trial")
    assert table.texts("1").tolist() == ["1", "2", "3"]


def test_a_line_break_in_a_quoted_field_counts_as_a_line(tmp_path):
    path = write(tmp_path, 'file,score,"a\n\nnote"\n0.wav,1,"two\r\nlines"\n1.wav,bad,"""x"""\n')
    form = TableFormat("any", ("trial", "score"), ("file", "score"), ",")
    table = read_table(path, form)
    assert [table.line(row) for row in range(len(table))] == [4, 6]
    assert table.texts("a  note").tolist() == ["two lines", '"x"']
    with pytest.raises(ValueError, match=r"table.txt:6: found 'bad', expected"):
        table.floats("score")
    path.write_text(path.read_text() + "\n2.wav,1,\n")
    with pytest.raises(ValueError, match=r"table.txt:7: found an empty line, expected 3\b.* line 1\b"):
        read_table(path, form)
