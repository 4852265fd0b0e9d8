"""Tests of `track`: trials and their recordings, in small trees in the layouts of the corpora."""

import pytest

from sls.data.corpora.tracks import load_tracks
from sls.data.tables.protocols import Label
from tests.data.corpora.test_track import LA_ROWS, write, write_la, write_la_key, write_note


def test_trials_come_with_their_recordings_in_the_order_of_the_list(tmp_path):
    write_note(tmp_path)
    write_la(tmp_path)
    trials = load_tracks()["LA"].trials(tmp_path)
    assert [trial.name for trial in trials] == [row[0] for row in LA_ROWS]
    assert all(trial.path.is_file() and trial.label is None for trial in trials)


def test_trials_of_a_subset_come_with_the_labels_of_the_key(tmp_path):
    write_note(tmp_path)
    write_la(tmp_path)
    write_la_key(tmp_path / "keys" / "LA")
    trials = load_tracks()["LA"].trials(tmp_path, "eval")
    assert [(trial.name, trial.label) for trial in trials] == [
        ("LA_E_1", Label.SPOOF),
        ("LA_E_2", Label.BONAFIDE),
    ]


def test_missing_recordings_are_counted_or_left_for_the_reader(tmp_path):
    write_note(tmp_path)
    write_la(tmp_path)
    (tmp_path / "ASVspoof2021_LA_eval" / "flac" / "LA_E_3.flac").unlink()
    track = load_tracks()["LA"]
    with pytest.raises(FileNotFoundError, match=r"track LA: 1 of 4 .*\bLA_E_3\.flac"):
        track.trials(tmp_path)
    trials = track.trials(tmp_path, require_audio=False)
    assert trials[2].path == tmp_path / "ASVspoof2021_LA_eval" / "flac" / "LA_E_3.flac"


def test_a_corpus_in_parts_is_one_corpus(tmp_path):
    write_note(tmp_path)
    names = [f"DF_E_{index}" for index in range(8)]
    for index, name in enumerate(names):
        part = tmp_path / f"ASVspoof2021_DF_eval_part{index % 4:02d}" / "ASVspoof2021_DF_eval"
        write(part / "flac" / f"{name}.flac")
    listed = tmp_path / "ASVspoof2021_DF_eval_part02" / "ASVspoof2021_DF_eval"
    write(listed / "ASVspoof2021.DF.cm.eval.trl.txt", "\n".join(names))
    trials = load_tracks()["DF"].trials(tmp_path)
    assert [trial.name for trial in trials] == names
    assert len({trial.path.parent for trial in trials}) == 4


@pytest.mark.parametrize(
    ("protocols", "audio"),
    [
        ("ASVspoof2019_LA_cm_protocols", "ASVspoof2019_LA_train/flac"),
        ("LA/ASVspoof2019_LA_cm_protocols", "LA/ASVspoof2019_LA_train/flac"),
        ("ASVspoof2019/LA/ASVspoof2019_LA_cm_protocols", "ASVspoof2019/LA/ASVspoof2019_LA_train/flac"),
        ("database/ASVspoof_LA_cm_protocols", "data/ASVspoof2019_LA_train/flac"),  # the known reproduction's
        (".", "ASVspoof2019_LA_train"),
    ],
)
def test_training_data_is_found_in_each_usual_place(tmp_path, protocols, audio):
    write_note(tmp_path)
    lines = "LA_1 LA_T_1 - - bonafide\nLA_1 LA_T_2 - A01 spoof\n"
    write(tmp_path / protocols / "ASVspoof2019.LA.cm.train.trn.txt", lines)
    for name in ("LA_T_1", "LA_T_2"):
        write(tmp_path / audio / f"{name}.flac")
    trials = load_tracks()["train"].trials(tmp_path, is_labelled=True)
    assert [(trial.name, trial.label) for trial in trials] == [("LA_T_1", 1), ("LA_T_2", 0)]


@pytest.mark.parametrize("folder", [".", "release_in_the_wild", "data/release_in_the_wild"])
def test_in_the_wild_is_read_from_its_meta_csv(tmp_path, folder):
    write_note(tmp_path)
    root = tmp_path / folder
    write(root / "meta.csv", "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Bill Clinton,bona-fide\n")
    for name in ("0.wav", "1.wav"):
        write(root / name)
    track = load_tracks()["In-the-Wild"]
    assert track.key(tmp_path).counts() == {"trials": 2, "bonafide": 1, "spoof": 1}
    assert [trial.name for trial in track.trials(tmp_path)] == ["0.wav", "1.wav"]


def test_asvspoof5_is_found(tmp_path):
    write_note(tmp_path)
    lines = "E_1 E_0001 F C05 2 20 AC1 A17 spoof -\nE_2 E_0002 M - - - - bonafide bonafide -\n"
    write(tmp_path / "ASVspoof5_protocols" / "ASVspoof5.eval.track_1.tsv", lines)
    for name in ("E_0001", "E_0002"):
        write(tmp_path / "flac_E_eval" / f"{name}.flac")
    trials = load_tracks()["ASVspoof5"].trials(tmp_path)
    assert [(trial.name, trial.label) for trial in trials] == [("E_0001", 0), ("E_0002", 1)]


def test_training_data_of_one_class_is_an_error(tmp_path):
    write_note(tmp_path)
    write(
        tmp_path / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.train.trn.txt",
        "LA_1 LA_T_1 - A01 spoof\nLA_1 LA_T_2 - A01 spoof\n",
    )
    with pytest.raises(ValueError, match=r"found no bonafide .*\b2, expected both classes"):
        load_tracks()["train"].trials(tmp_path, is_labelled=True)


def test_training_data_without_labels_is_an_error(tmp_path):
    tracks = write(
        tmp_path / "tracks.yaml",
        "tracks: {train: {protocol: {files: list.txt, formats: trial-list}, audio: {folders: wav}}}\n",
    )
    write(tmp_path / "list.txt", "a\nb\n")
    with pytest.raises(ValueError, match=r"list\.txt: found .*without labels, expected .*key"):
        load_tracks(tracks)["train"].trials(tmp_path, is_labelled=True)


def test_counts_other_than_published_are_an_error_unless_a_note_says_so(tmp_path):
    write_la(tmp_path)
    track = load_tracks()["LA"]
    with pytest.raises(ValueError, match=r"found 4 trials .*expected 181566\b.*CORPUS\.yaml"):
        track.protocol(tmp_path)
    assert len(track.protocol(tmp_path, is_checked=False)) == 4
    write(tmp_path / "CORPUS.yaml", "corpus: made\ncounts: {LA: {all: {trials: 4}}}\n")
    assert len(track.protocol(tmp_path)) == 4
    write(tmp_path / "CORPUS.yaml", "corpus: made\ncounts: {LA: {all: {trials: 5}}}\n")
    with pytest.raises(ValueError, match="found 4 trials"):
        track.protocol(tmp_path)


def test_a_note_speaks_for_the_files_below_it_alone(tmp_path):
    write_note(tmp_path / "demo")
    write_la_key(tmp_path / "demo" / "keys" / "LA")
    write_la_key(tmp_path / "downloads" / "keys" / "LA")
    track = load_tracks()["LA"]
    assert len(track.key(tmp_path / "demo", tmp_path / "demo" / "keys")) == 4
    with pytest.raises(ValueError, match=r"expected (148176|181566)\b"):
        track.key(tmp_path / "demo", tmp_path / "downloads" / "keys")


def test_a_note_that_is_not_one_is_an_error(tmp_path):
    write_la(tmp_path)
    for content in (
        "counts: {}\n",
        "corpus: a\nsize: 3\n",
        "corpus: a\ncounts: {LA: {all: {trial: 3}}}\n",
        "{",
    ):
        write(tmp_path / "CORPUS.yaml", content)
        with pytest.raises(ValueError, match=r"CORPUS\.yaml"):
            load_tracks()["LA"].protocol(tmp_path)


def test_a_data_root_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_tracks()["LA"].trials(tmp_path / "nowhere")
