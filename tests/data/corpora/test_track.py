"""Tests of `track`: keys and ASV scores, in small trees in the layouts of the corpora."""

from pathlib import Path

import pytest

from sls.data.corpora.tracks import load_tracks
from sls.data.tables.asv_scores import Role
from sls.data.tables.protocols import Protocol

LA_ROWS = [
    ("LA_E_1", "alaw", "ita_tx", "A07", "spoof", "eval"),
    ("LA_E_2", "none", "-", "bonafide", "bonafide", "eval"),
    ("LA_E_3", "g722", "loc_tx", "A08", "spoof", "progress"),
    ("LA_E_4", "none", "-", "bonafide", "bonafide", "hidden"),
]
ASV_ROWS = [
    ("LA_1-alaw", "LA_E_1-alaw", "alaw", "A07", "spoof", "eval", 1.0),
    ("LA_2-none", "LA_E_2-none", "none", "bonafide", "target", "eval", 5.0),
    ("LA_3-none", "LA_E_2-none", "none", "bonafide", "nontarget", "eval", -5.0),
    ("LA_4-none", "LA_E_2-none", "none", "bonafide", "nontarget", "progress", -7.0),
    ("LA_1-alaw", "LA_E_3-alaw", "alaw", "A08", "spoof", "progress", 2.0),
]


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def write_note(root: Path, corpus: str = "made") -> None:
    write(root / "CORPUS.yaml", f"corpus: {corpus}\n")


def write_la_key(folder: Path, name: str = "trial_metadata.txt", asv: str = "ASVTorch_Kaldi") -> None:
    lines = [
        f"LA_1 {trial} {codec} {tx} {attack} {label} notrim {subset}\n"
        for trial, codec, tx, attack, label, subset in LA_ROWS
    ]
    write(folder / "CM" / name, "".join(lines))
    metadata = [f"{e} {t} {codec} - {a} {role} notrim {s}\n" for e, t, codec, a, role, s, _ in ASV_ROWS]
    write(folder / "ASV" / name, "".join(metadata))
    scores = [f"{e} {t} {score}\n" for e, t, *_, score in ASV_ROWS]
    write(folder / "ASV" / asv / "score.txt", "".join(scores))


def write_la(root: Path) -> None:
    folder = root / "ASVspoof2021_LA_eval"
    write(folder / "ASVspoof2021.LA.cm.eval.trl.txt", "".join(f"{row[0]}\n" for row in LA_ROWS))
    for row in LA_ROWS:
        write(folder / "flac" / f"{row[0]}.flac")


@pytest.mark.parametrize("spelling", ["trial_metadata.txt", "trl_metadata.txt"])
@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("keys/LA", "keys/LA"),
        ("keys/LA", "keys"),
        ("keys/LA", "."),
        ("LA-keys-full/keys/LA", "LA-keys-full"),
        ("LA-keys-full/keys/LA", "."),
        ("LA-keys-stage-1/keys", "LA-keys-stage-1/keys"),
        ("LA-keys-stage-1/keys", "LA-keys-stage-1"),
        ("ASVspoof2021/keys/LA", "."),
        ("keys", "."),
        ("keys/LA", "keys/LA/CM"),
        ("data/keys/LA", "."),
        ("LA-keys-full", "."),
    ],
)
def test_a_key_is_found_in_each_usual_place(tmp_path, place, named, spelling):
    write_note(tmp_path)
    write_la_key(tmp_path / place, spelling)
    key = load_tracks()["LA"].key(tmp_path / "no_data", tmp_path / named)
    assert key.names.tolist() == [row[0] for row in LA_ROWS]
    assert key.source == tmp_path / place / "CM" / spelling


@pytest.mark.parametrize("named", [".", "keys", "keys/LA"])
def test_a_key_may_lie_outside_a_folder_cm(tmp_path, named):
    write_note(tmp_path)
    write_la_key(tmp_path / "whole")
    path = tmp_path / "keys" / "LA" / "trial_metadata.txt"
    path.parent.mkdir(parents=True)
    (tmp_path / "whole" / "CM" / "trial_metadata.txt").rename(path)
    assert load_tracks()["LA"].key("", tmp_path / named).source == path


@pytest.mark.parametrize("data_root", ["x/ASV", "x/ASV/mine", "x/CM", "x/CM/mine"])
def test_nothing_outside_a_data_root_is_taken_whatever_it_is_called(tmp_path, data_root):
    write_note(tmp_path)
    write_la_key(tmp_path / "x" / "keys" / "LA")
    root = tmp_path / data_root
    root.mkdir(parents=True)
    track = load_tracks()["LA"]
    with pytest.raises(FileNotFoundError, match="no key"):
        track.key(root)
    assert track.asv_scores(root) is None


def test_asv_metadata_is_not_taken_from_outside_a_data_root(tmp_path):
    write_note(tmp_path)
    write_la_key(tmp_path / "keys" / "LA")
    root = tmp_path / "ASV"
    (tmp_path / "keys" / "LA" / "ASV" / "ASVTorch_Kaldi").rename(tmp_path / "scores")
    (root / "ASV").mkdir(parents=True)
    (tmp_path / "scores").rename(root / "ASV" / "ASVTorch_Kaldi")
    track = load_tracks()["LA"]
    with pytest.raises(FileNotFoundError, match="no ASV metadata"):
        track.asv_scores(root)
    asv = track.asv_scores(root, key=tmp_path / "keys" / "LA" / "CM")
    assert asv is not None


def test_a_key_may_be_named_by_its_file(tmp_path):
    write_note(tmp_path)
    write_la_key(tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "CM" / "trial_metadata.txt"
    track = load_tracks()["LA"]
    assert track.key("", path).counts() == {"trials": 4, "bonafide": 2, "spoof": 2}
    asv = track.asv_scores("", path)
    assert asv is not None
    assert len(asv) == 3


def test_the_key_of_another_track_in_the_same_place_is_passed_over(tmp_path):
    write_note(tmp_path)
    write(tmp_path / "keys" / "LA" / "CM" / "trial_metadata.txt", " ".join("abcdefghijklm") + "\n")
    write_la_key(tmp_path / "keys")
    assert load_tracks()["LA"].key(tmp_path).source == tmp_path / "keys" / "CM" / "trial_metadata.txt"


def test_the_key_of_la_is_not_taken_for_that_of_df(tmp_path):
    write_note(tmp_path)
    write_la_key(tmp_path / "keys")
    with pytest.raises(ValueError, match="found 8 columns .*, expected 13 columns .*key="):
        load_tracks()["DF"].key(tmp_path)
    named = tmp_path / "keys" / "CM" / "trial_metadata.txt"
    assert len(load_tracks()["DF"].key(tmp_path, named)) == 4


def test_a_key_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"track LA: .*none\.txt"):
        load_tracks()["LA"].key(tmp_path, tmp_path / "none.txt")


def test_where_no_key_is_the_error_says_where_one_looked_and_what_to_download(tmp_path):
    with pytest.raises(FileNotFoundError, match="no key") as caught:
        load_tracks()["LA"].key(tmp_path)
    message = str(caught.value)
    for part in (str(tmp_path), "CM/trial_metadata.txt", "keys/LA", "LA-keys-full.tar.gz"):
        assert part in message
    assert "\n" not in message


def test_asv_scores_of_another_number_than_published_are_an_error_unless_a_note_says_so(tmp_path):
    write_la_key(tmp_path / "keys" / "LA")
    track = load_tracks()["LA"]
    with pytest.raises(ValueError, match=r"found 5 ASV trials, expected 785281\b") as caught:
        track.asv_scores(tmp_path)
    path = tmp_path / "keys" / "LA" / "ASV" / "ASVTorch_Kaldi" / "score.txt"
    assert str(caught.value).startswith(f"{path}: ")
    assert "CORPUS.yaml" in str(caught.value)
    write_note(tmp_path)
    assert track.asv_scores(tmp_path) is not None
    write(tmp_path / "CORPUS.yaml", "corpus: made\ncounts: {LA: {asv: {target: 1, nontarget: 3}}}\n")
    with pytest.raises(ValueError, match=r"found 2 nontarget .*expected 3\b"):
        track.asv_scores(tmp_path)


def test_the_asv_scores_of_asvspoof2019_cut_short_are_an_error(tmp_path, reference_dir):
    name = "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"
    path = tmp_path / "ASVspoof2019_LA_asv_scores" / name
    whole = (reference_dir / "asvspoof2019" / "asv_scores" / name).read_text()
    track = load_tracks()["ASVspoof2019-LA"]
    write(path, whole)
    asv = track.asv_scores(tmp_path)
    assert asv is not None
    assert asv.counts() == {"target": 5_370, "nontarget": 33_327, "spoof": 63_882}
    for end in (whole.rindex("\n", 0, -1) - 4, len(whole) // 2):
        write(path, whole[:end])
        with pytest.raises(ValueError, match=r"ASV trials, expected \d+\b"):
            track.asv_scores(tmp_path)
        # Named, it may be of an ASV system of one's own, on trials of one's own.
        assert track.asv_scores(tmp_path, asv_scores=path) is not None


@pytest.mark.parametrize("folder", ["ASVTorch_Kaldi", "ASVtorch_Kaldi", "ASVtorch_kaldi"])
def test_asv_scores_of_2021_are_found_and_joined(tmp_path, folder):
    write_note(tmp_path)
    write_la_key(tmp_path / "keys" / "LA", asv=folder)
    asv = load_tracks()["LA"].asv_scores(tmp_path)
    assert asv is not None
    assert [scores.tolist() for scores in asv.by_role()] == [[5.0], [-5.0], [1.0]]
    assert asv.fields["attack"][asv.roles == Role.SPOOF].tolist() == ["A07"]
    assert asv.fields["codec"].tolist() == ["alaw", "none", "none"]


@pytest.mark.parametrize("named", ["x/ASV/ASVTorch_Kaldi/score.txt", "x/ASV/ASVTorch_Kaldi", "x/ASV", "x"])
def test_asv_scores_may_be_named_by_file_or_directory(tmp_path, named):
    write_note(tmp_path)
    write_la_key(tmp_path / "x")
    asv = load_tracks()["LA"].asv_scores(tmp_path / "nothing", asv_scores=tmp_path / named, subset="all")
    assert asv is not None
    assert asv.counts() == {"target": 1, "nontarget": 2, "spoof": 2}


def test_asv_scores_that_bring_their_roles_need_no_metadata(tmp_path):
    path = write(tmp_path / "asv.txt", "bonafide target 3\nbonafide nontarget -3\nA07 spoof 1\n")
    asv = load_tracks()["LA"].asv_scores("", asv_scores=path)
    assert asv is not None
    assert asv.counts() == {"target": 1, "nontarget": 1, "spoof": 1}


def test_named_asv_scores_that_are_not_there_are_an_error_and_others_none(tmp_path):
    track = load_tracks()["LA"]
    assert track.asv_scores(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="no ASV scores"):
        track.asv_scores(tmp_path, asv_scores=tmp_path)
    assert load_tracks()["DF"].asv_scores(tmp_path) is None


def test_asv_scores_named_for_a_track_that_has_none_are_not_passed_over(tmp_path):
    path = write(tmp_path / "asv.txt", "bonafide target 3\nbonafide nontarget -3\nA07 spoof 1\n")
    with pytest.raises(ValueError, match=r"^asv_scores: found .*asv\.txt, expected none\b.* DF\b"):
        load_tracks()["DF"].asv_scores(tmp_path, asv_scores=path)


WILD_KEY = "".join(f"- {row}.wav - - - {'spoof' if row % 2 else 'bonafide'}\n" for row in range(6))
# In another order, and of more trials than the key.
WILD_META = "file,speaker,label\n" + "".join(
    f"{row}.wav,S{row % 3},{'spoof' if row % 2 else 'bona-fide'}\n" for row in reversed(range(8))
)


def read_wild_key(tmp_path: Path, meta: str | None, content: str = WILD_META) -> Protocol:
    """Reads a named key without speakers, where a list with them lies at `meta`."""
    write_note(tmp_path)
    (tmp_path / "data").mkdir()
    if meta is not None:
        write(tmp_path / meta, content)
    return load_tracks()["In-the-Wild"].key(
        tmp_path / "data", write(tmp_path / "keys" / "mine.txt", WILD_KEY)
    )


@pytest.mark.parametrize("meta", ["keys/meta.csv", "data/meta.csv", "data/release_in_the_wild/meta.csv"])
def test_a_key_without_speakers_takes_them_from_where_they_are_known(tmp_path, meta):
    key = read_wild_key(tmp_path, meta)
    assert key.fields["speaker"].tolist() == ["S0", "S1", "S2"] * 2
    assert key.select(key.labels == 1).fields["speaker"].tolist() == ["S0", "S2", "S1"]
    assert key.speakers is not None
    assert (key.source.name, key.speakers.source) == ("mine.txt", tmp_path / meta)


def test_a_list_of_speakers_beside_the_key_comes_before_that_under_the_data_root(tmp_path):
    write(tmp_path / "keys" / "meta.csv", WILD_META)
    key = read_wild_key(tmp_path, "data/meta.csv", WILD_META.replace("S", "T"))
    assert set(key.fields["speaker"]) == {"S0", "S1", "S2"}


def test_a_key_that_is_found_takes_its_speakers_too(tmp_path):
    write_note(tmp_path)
    write(tmp_path / "keys" / "in_the_wild_key.txt", WILD_KEY)
    meta = write(tmp_path / "data" / "meta.csv", WILD_META)
    key = load_tracks()["In-the-Wild"].key(tmp_path)
    assert (key.source.name, key.speakers.source) == ("in_the_wild_key.txt", meta)


def test_without_a_list_of_speakers_a_key_stays_as_it_is(tmp_path):
    key = read_wild_key(tmp_path, None)
    assert (list(key.fields), key.speakers) == ([], None)
    write(tmp_path / "data" / "meta.csv", WILD_META)
    whole = load_tracks()["In-the-Wild"].key(tmp_path / "data")
    assert (whole.source.name, whole.speakers) == ("meta.csv", None)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (
            "4.wav,S1,bona-fide",
            "4.wav,S1,spoof",
            r"found label spoof .*'4\.wav', expected bonafide\b",
        ),
        ("3.wav,S0,spoof\n", "", r"found no trial '3\.wav', expected"),
        ("file,speaker", "file,singer", "expected .*file, speaker, label"),
    ],
)
def test_a_list_of_speakers_that_disagrees_with_the_key_is_an_error(tmp_path, old, new, found):
    assert old in WILD_META
    with pytest.raises(ValueError, match=found) as caught:
        read_wild_key(tmp_path, "data/meta.csv", WILD_META.replace(old, new))
    assert str(caught.value).startswith(str(tmp_path / "data" / "meta.csv"))
    assert "\n" not in str(caught.value)


def test_the_real_key_of_in_the_wild_takes_speakers_by_the_name_of_the_trial(tmp_path, reference_dir):
    bare = load_tracks()["In-the-Wild"].key(reference_dir / "in_the_wild")
    rows = [
        f"{name},Speaker {name[0]},{'bona-fide' if label else 'spoof'}\n"
        for name, label in zip(bare.names, bare.labels, strict=True)
    ]
    write(tmp_path / "meta.csv", "file,speaker,label\n" + "".join(rows[::-1]))
    key = load_tracks()["In-the-Wild"].key(tmp_path, bare.source)
    assert key.fields["speaker"].tolist() == [f"Speaker {name[0]}" for name in bare.names]


def test_the_real_protocols_and_scores_are_found_under_a_data_root(tmp_path, reference_dir):
    (tmp_path / "ASVspoof2019_LA_cm_protocols").symlink_to(reference_dir / "asvspoof2019" / "protocols")
    (tmp_path / "ASVspoof2019_LA_asv_scores").symlink_to(reference_dir / "asvspoof2019" / "asv_scores")
    (tmp_path / "ASVspoof2021_LA_eval").symlink_to(reference_dir / "asvspoof2021")
    (tmp_path / "keys").symlink_to(reference_dir / "in_the_wild")
    tracks = load_tracks()
    found = {name: len(tracks[name].protocol(tmp_path)) for name in tracks if name not in ("DF", "ASVspoof5")}
    assert found == {
        "train": 25_380,
        "dev": 24_844,
        "LA": 181_566,
        "In-the-Wild": 31_779,
        "ASVspoof2019-LA": 71_237,
    }
    asv = tracks["ASVspoof2019-LA"].asv_scores(tmp_path)
    assert asv is not None
    assert sum(asv.counts().values()) == 102_579


@pytest.mark.parametrize(("name", "trials"), [("LA", 16_464), ("DF", 59_325)])
def test_the_published_progress_keys_pass_the_check_of_counts(reference_dir, name, trials):
    path = reference_dir / "asvspoof2021" / f"{name}.progress.protocol.txt"
    track = load_tracks()[name]
    assert len(track.key("", path).select_subset("progress")) == trials
    with pytest.raises(ValueError, match="no trial .*'eval'"):
        track.key("", path).select_subset(track.default_subset)
