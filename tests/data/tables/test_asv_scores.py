from pathlib import Path

import pytest

from sls.data.corpora.tracks import load_formats
from sls.data.tables.asv_scores import Role, brings_roles, read_asv_scores
from sls.data.tables.formats import TableFormat

FORMATS = load_formats()
ROWS = [
    "S1-alaw LA_E_1-alaw alaw tx A07 spoof notrim eval",
    "S1-none LA_E_2-none none - bonafide target notrim eval",
    "S2-none LA_E_2-none none - bonafide nontarget notrim eval",
    "S3-none LA_E_2-none none - bonafide nontarget notrim hidden_track",
]
SCORES = [
    "S1-alaw LA_E_1-alaw 1.5",
    "S1-none LA_E_2-none 5",
    "S2-none LA_E_2-none -5.25",
    "S3-none LA_E_2-none -6",
]


def join(folder: Path, rows: list[str], scores: list[str]):
    (folder / "trial_metadata.txt").write_text("\n".join(rows) + "\n")
    (folder / "score.txt").write_text("\n".join(scores) + "\n")
    return read_asv_scores(
        folder / "score.txt",
        FORMATS["asvspoof2021-asv-scores"],
        folder / "trial_metadata.txt",
        FORMATS["asvspoof2021-asv"],
    )


def test_scores_are_joined_by_row_since_recordings_repeat(tmp_path):
    asv = join(tmp_path, ROWS, SCORES)
    assert [scores.tolist() for scores in asv.by_role()] == [[5.0], [-5.25, -6.0], [1.5]]
    assert asv.counts() == {"target": 1, "nontarget": 2, "spoof": 1}
    assert asv.fields["codec"].tolist() == ["alaw", "none", "none", "none"]


def test_some_spoofed_recordings_are_kept_by_name_where_they_have_one(tmp_path):
    assert list(join(tmp_path, ROWS, SCORES).spoofed_names or ()) == ["LA_E_1-alaw"]
    (tmp_path / "scores.txt").write_text("A07 spoof 1\nbonafide target 2\nbonafide nontarget 3\n")
    assert read_asv_scores(tmp_path / "scores.txt").spoofed_names is None


def test_the_hidden_subset_has_one_name(tmp_path):
    asv = join(tmp_path, ROWS, SCORES)
    assert asv.select_subset("hidden").by_role()[Role.NONTARGET].tolist() == [-6.0]
    assert len(asv.select_subset("eval")) == 3
    with pytest.raises(ValueError, match="found no .*'progress', expected .*: eval, hidden"):
        asv.select_subset("progress")


def test_rows_in_another_order_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"score\.txt:2: found enrolment 'S2-none', expected 'S1-none'"):
        join(tmp_path, ROWS, [SCORES[0], SCORES[2], SCORES[1], SCORES[3]])


def test_names_are_compared_where_both_files_have_them(tmp_path):
    (tmp_path / "roles.txt").write_text("S1 a spoof\nS2 b target\nS3 b nontarget\n")
    (tmp_path / "scores.txt").write_text("a 1\nb 2\nb 3\n")
    roles = TableFormat("roles", ("enrolment", "trial", "role"))
    by_trial = TableFormat("scores", ("trial", "score"))
    asv = read_asv_scores(tmp_path / "scores.txt", by_trial, tmp_path / "roles.txt", roles)
    assert [scores.tolist() for scores in asv.by_role()] == [[2], [3], [1]]
    by_enrolment = TableFormat("scores", ("enrolment", "score"))
    with pytest.raises(ValueError, match=r"scores\.txt:1: found enrolment 'a', expected 'S1'"):
        read_asv_scores(tmp_path / "scores.txt", by_enrolment, tmp_path / "roles.txt", roles)


def test_a_row_too_few_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"score\.txt: found 3 rows, expected 4\b.*trial_metadata\.txt"):
        join(tmp_path, ROWS, SCORES[:3])


def test_an_unknown_role_is_named_with_its_line(tmp_path):
    rows = [*ROWS[:2], ROWS[2].replace("nontarget", "impostor"), ROWS[3]]
    with pytest.raises(ValueError, match=r":3: found role 'impostor', expected .*nontarget, spoof, target"):
        join(tmp_path, rows, SCORES)


def test_an_unknown_subset_is_named_with_its_line(tmp_path):
    with pytest.raises(ValueError, match=r":1: found subset 'eval2'"):
        join(tmp_path, [ROWS[0].replace("eval", "eval2"), *ROWS[1:]], SCORES)


def test_a_role_without_trials_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="found no target trial"):
        join(tmp_path, [ROWS[0], ROWS[2]], [SCORES[0], SCORES[2]])


def test_a_score_that_is_not_finite_is_named_with_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"score\.txt:4: found 'nan'"):
        join(tmp_path, ROWS, [*SCORES[:3], "S3-none LA_E_2-none nan"])


def test_scores_of_2019_bring_their_roles(tmp_path):
    path = tmp_path / "scores.txt"
    path.write_text("bonafide target 18.2\nbonafide nontarget -3\nA06 spoof 4.8\nA05 spoof 4\n")
    assert brings_roles(path)
    asv = read_asv_scores(path)
    assert asv.by_role()[Role.SPOOF].tolist() == [4.8, 4.0]
    assert asv.fields["attack"][asv.roles == Role.SPOOF].tolist() == ["A06", "A05"]
    assert asv.select_subset("eval") is asv  # a corpus without subsets has one


@pytest.mark.parametrize("line", ["spoof", "LA_E_1 spoof", "LA_E_1 spoof 4.8 -1", "LA_E_1 - spoof", ""])
def test_a_score_file_of_another_form_brings_no_roles(tmp_path, line):
    path = tmp_path / "scores.txt"
    path.write_text(f"{line}\n")
    assert not brings_roles(path)


@pytest.mark.parametrize(
    ("partition", "counts"),
    [
        ("dev", {"target": 1_484, "nontarget": 5_768, "spoof": 22_296}),
        ("eval", {"target": 5_370, "nontarget": 33_327, "spoof": 63_882}),
    ],
)
def test_the_asv_scores_of_asvspoof2019_are_counted(reference_dir, partition, counts):
    name = f"ASVspoof2019.LA.asv.{partition}.gi.trl.scores.txt"
    asv = read_asv_scores(reference_dir / "asvspoof2019" / "asv_scores" / name)
    assert asv.counts() == counts
    assert len(set(asv.fields["attack"][asv.roles == Role.SPOOF])) == {"dev": 6, "eval": 13}[partition]


def test_the_asv_scores_of_minispoof_are_joined(reference_dir):
    folder = reference_dir / "minispoof" / "keys" / "LA" / "ASV"
    asv = read_asv_scores(
        folder / "ASVTorch_Kaldi" / "score.txt",
        FORMATS["asvspoof2021-asv-scores"],
        folder / "trial_metadata.txt",
        FORMATS["asvspoof2021-asv"],
    )
    assert len(asv) == 3_360
    assert asv.select_subset("eval").counts() == {"target": 248, "nontarget": 1_984, "spoof": 372}
    assert asv.by_role()[Role.TARGET].mean() > asv.by_role()[Role.NONTARGET].mean()
