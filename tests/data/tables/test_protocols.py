"""Tests of `protocols` and `formats`, by reading protocols of every form."""

import re
from pathlib import Path

import numpy as np
import pytest

from sls.data.corpora.track_schema import DEFAULT_LABELS
from sls.data.corpora.tracks import load_formats
from sls.data.tables.columns import Columns, Texts
from sls.data.tables.formats import TableFormat
from sls.data.tables.protocols import Label, Protocol, read_protocol

FORMATS = load_formats()


def write(folder: Path, content: str) -> Path:
    path = folder / "protocol.txt"
    path.write_text(content, encoding="utf-8")
    return path


def test_labels_are_spoof_zero_and_bonafide_one():
    assert (int(Label.SPOOF), int(Label.BONAFIDE)) == (0, 1)


def test_an_asvspoof2019_protocol_is_read(tmp_path):
    path = write(tmp_path, "LA_0079 LA_T_1 - - bonafide\nLA_0079 LA_T_2 - A01 spoof\n")
    protocol = read_protocol(path, FORMATS["asvspoof2019"])
    assert protocol.names.tolist() == ["LA_T_1", "LA_T_2"]
    assert protocol.labels is not None
    assert protocol.labels.tolist() == [Label.BONAFIDE, Label.SPOOF]
    assert protocol.labels.dtype == np.int8
    assert protocol.fields["attack"].tolist() == ["-", "A01"]
    assert set(protocol.fields) == {"speaker", "attack"}
    assert protocol.counts() == {"trials": 2, "bonafide": 1, "spoof": 1}


def test_an_asvspoof5_protocol_is_read(tmp_path):
    lines = (
        "E_1607 E_0009538969 F C05 2 20 AC1 A17 spoof -\nE_0001 E_0000000001 M - - - - bonafide bonafide -\n"
    )
    protocol = read_protocol(write(tmp_path, lines), FORMATS["asvspoof5"])
    assert protocol.names.tolist() == ["E_0009538969", "E_0000000001"]
    assert protocol.fields["codec"].tolist() == ["C05", "-"]
    assert protocol.fields["attack"].tolist() == ["A17", "bonafide"]
    assert protocol.counts() == {"trials": 2, "bonafide": 1, "spoof": 1}


def test_both_spellings_of_hidden_are_one_subset(tmp_path):
    rows = [("hidden", "a"), ("hidden_track", "b"), ("eval", "c")]
    lines = "".join(f"S {name} alaw ita_tx A07 spoof notrim {subset}\n" for subset, name in rows)
    protocol = read_protocol(write(tmp_path, lines), FORMATS["asvspoof2021-la"])
    assert protocol.select_subset("hidden").names.tolist() == ["a", "b"]
    assert protocol.subsets() == ("eval", "hidden")


def test_a_label_with_a_hyphen_is_bonafide(tmp_path):
    path = write(tmp_path, "file,speaker,label\n0.wav,Alec Guinness,bona-fide\n1.wav,Bill Clinton,spoof\n")
    protocol = read_protocol(path, (FORMATS["in-the-wild-meta"], FORMATS["in-the-wild-key"]))
    assert protocol.counts() == {"trials": 2, "bonafide": 1, "spoof": 1}
    assert protocol.fields["speaker"].tolist() == ["Alec Guinness", "Bill Clinton"]


def test_columns_that_the_format_does_not_name_keep_their_own_names(tmp_path):
    path = write(tmp_path, "label,duration,file,tool\nspoof,3.5,a.wav,xtts\nbonafide,2.0,b.wav,-\n")
    protocol = read_protocol(path, FORMATS["csv"])
    assert protocol.names.tolist() == ["a.wav", "b.wav"]
    assert protocol.fields["tool"].tolist() == ["xtts", "-"]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"trial": "file", "label": "class"},
            "file,class,label\na.wav,spoof,bonafide\nb.wav,bonafide,spoof\n",
        ),
        ({"trial": "file", "label": "label"}, "file,label,trial\na.wav,spoof,7\nb.wav,bonafide,8\n"),
        (
            {"label": "class", "trial": "file"},
            "trial,label,class,file\n7,0,spoof,a.wav\n8,1,bonafide,b.wav\n",
        ),
    ],
)
def test_a_column_that_bears_the_name_of_a_mapped_one_is_not_read_in_its_place(tmp_path, columns, text):
    own = TableFormat("own", tuple(columns), tuple(columns.values()), ",", DEFAULT_LABELS)
    protocol = read_protocol(write(tmp_path, text), own)
    assert protocol.names.tolist() == ["a.wav", "b.wav"]
    assert protocol.labels is not None
    assert protocol.labels.tolist() == [Label.SPOOF, Label.BONAFIDE]
    assert not protocol.fields


def test_one_column_may_serve_two_names(tmp_path):
    own = TableFormat("own", ("trial", "path"), ("file", "file"), ",")
    protocol = read_protocol(write(tmp_path, "file\na.wav\n"), own)
    assert protocol.names.tolist() == protocol.fields["path"].tolist() == ["a.wav"]


def test_a_list_without_labels_has_none(tmp_path):
    protocol = read_protocol(write(tmp_path, "LA_E_1\nLA_E_2\n"), FORMATS["trial-list"])
    assert protocol.labels is None
    assert protocol.counts() == {"trials": 2}


def test_an_unknown_label_is_named_with_its_line(tmp_path):
    path = write(tmp_path, "S a - - bonafide\nS b - A01 spoofed\n")
    message = rf"^{re.escape(str(path))}:2: found label 'spoofed', expected .*: bona-fide, bonafide, spoof$"
    with pytest.raises(ValueError, match=message):
        read_protocol(path, FORMATS["asvspoof2019"])


def test_the_first_of_several_unknown_labels_is_named(tmp_path):
    labels = ["real"] * 3 + ["fake"] * 3
    path = write(tmp_path, "".join(f"S t{row} - - {label}\n" for row, label in enumerate(labels)))
    with pytest.raises(ValueError, match=r":1: found label 'real'"):
        read_protocol(path, FORMATS["asvspoof2019"])
    path = write(tmp_path, "".join(f"S t{row} - - {label}\n" for row, label in enumerate(labels[::-1])))
    with pytest.raises(ValueError, match=r":1: found label 'fake'"):
        read_protocol(path, FORMATS["asvspoof2019"])


def test_an_unknown_subset_is_named_with_its_line(tmp_path):
    path = write(tmp_path, "S a x y A01 spoof notrim eval\nS b x y A01 spoof notrim evaluation\n")
    with pytest.raises(ValueError, match=r":2: found subset 'evaluation', expected .*: eval, hidden, hid"):
        read_protocol(path, FORMATS["asvspoof2021-la"])


def test_a_trial_that_stands_twice_is_named_with_both_lines(tmp_path):
    path = write(tmp_path, "S a - - bonafide\nS b - A01 spoof\nS a - A02 spoof\n")
    with pytest.raises(ValueError, match=r":3: found trial 'a' .*line 1\b"):
        read_protocol(path, FORMATS["asvspoof2019"])


def test_a_trial_without_a_name_is_an_error(tmp_path):
    path = write(tmp_path, "file,label\n0.wav,spoof\n,spoof\n")
    with pytest.raises(ValueError, match=r"protocol\.txt:3: found .*without a name"):
        read_protocol(path, FORMATS["csv"])


def test_a_file_of_another_form_says_which_forms_are_expected(tmp_path):
    path = write(tmp_path, "S a bonafide\n")
    expected = r"5 columns .*asvspoof2019.*6 columns .*in-the-wild-key"
    message = rf"^{re.escape(str(path))}:1: found 3 columns .*'S a bonafide'.*expected {expected}"
    with pytest.raises(ValueError, match=message):
        read_protocol(path, (FORMATS["asvspoof2019"], FORMATS["in-the-wild-key"]))


def test_an_unknown_subset_asked_for_says_which_there_are(tmp_path):
    path = write(tmp_path, "S a x y A01 spoof notrim eval\nS b x y A01 spoof notrim progress\n")
    protocol = read_protocol(path, FORMATS["asvspoof2021-la"])
    with pytest.raises(ValueError, match="found no .*'hidden', expected .*: eval, progress"):
        protocol.select_subset("hidden")


def test_a_list_without_subsets_has_no_trial_of_one(tmp_path):
    protocol = read_protocol(write(tmp_path, "a\nb\n"), FORMATS["trial-list"])
    assert protocol.subsets() == ()
    assert protocol.select_subset("all") is protocol
    with pytest.raises(ValueError, match="found no .*'eval', expected .*: all"):
        protocol.select_subset("eval")


def test_a_selection_keeps_names_labels_and_fields_together():
    rng = np.random.default_rng(0)
    names = Texts.encode(f"t{index}" for index in range(50))
    labels = rng.integers(0, 2, 50).astype(np.int8)
    attacks = np.array([f"A{index:02d}" for index in range(50)], dtype=object)
    protocol = Protocol(Path("p"), "", names, labels, Columns.encode({"attack": attacks}))
    chosen = protocol.select(labels == Label.SPOOF).select(np.array([2, 0]))
    rows = np.flatnonzero(labels == Label.SPOOF)[[2, 0]]
    assert chosen.names.tolist() == names[rows].tolist()
    assert chosen.fields["attack"].tolist() == attacks[rows].tolist()
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [0, 0]


def test_an_empty_format_name_matches_nothing_but_its_own_number_of_columns():
    assert TableFormat("f", ("trial", "label")).matches("a spoof")
    assert not TableFormat("f", ("trial", "label")).matches("a spoof more")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ASVspoof2019.LA.cm.train.trn.txt", {"trials": 25_380, "bonafide": 2_580, "spoof": 22_800}),
        ("ASVspoof2019.LA.cm.dev.trl.txt", {"trials": 24_844, "bonafide": 2_548, "spoof": 22_296}),
        ("ASVspoof2019.LA.cm.eval.trl.txt", {"trials": 71_237, "bonafide": 7_355, "spoof": 63_882}),
    ],
)
def test_the_protocols_of_asvspoof2019_have_the_published_counts(reference_dir, name, expected):
    protocol = read_protocol(reference_dir / "asvspoof2019" / "protocols" / name, FORMATS["asvspoof2019"])
    assert protocol.counts() == expected
    attacks = {"train": 6, "dev": 6, "eval": 13}[name.split(".")[3]]
    assert len(set(protocol.fields["attack"].tolist()) - {"-"}) == attacks


def test_the_evaluation_list_of_asvspoof2021_la_is_counted(reference_dir):
    path = reference_dir / "asvspoof2021" / "ASVspoof2021.LA.cm.eval.trl.txt"
    assert read_protocol(path, FORMATS["trial-list"]).counts() == {"trials": 181_566}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LA.progress.protocol.txt", {"trials": 16_464, "bonafide": 1_676, "spoof": 14_788}),
        ("DF.progress.protocol.txt", {"trials": 59_325, "bonafide": 5_768, "spoof": 53_557}),
    ],
)
def test_the_progress_keys_of_asvspoof2021_are_counted(reference_dir, name, expected):
    protocol = read_protocol(reference_dir / "asvspoof2021" / name, FORMATS["asvspoof2021-la"])
    assert protocol.select_subset("progress").counts() == protocol.counts() == expected


def test_the_key_of_in_the_wild_is_counted(reference_dir):
    key = read_protocol(reference_dir / "in_the_wild" / "in_the_wild_key.txt", FORMATS["in-the-wild-key"])
    listed = read_protocol(reference_dir / "in_the_wild" / "in_the_wild_filelist.txt", FORMATS["trial-list"])
    assert key.counts() == {"trials": 31_779, "bonafide": 19_963, "spoof": 11_816}
    assert set(key.names) == set(listed.names)
