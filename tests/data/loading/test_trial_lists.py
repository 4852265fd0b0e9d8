import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sls.data.audio.recording import read_audio
from sls.data.corpora.tracks import load_formats
from sls.data.loading.trial_lists import list_recordings, listed_trials, read_any_protocol
from sls.data.tables.protocols import read_protocol
from tests.data.audio.test_recording import encode_by_av


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("content", "has_labels"),
    [
        ("a\nb\n", False),
        ("S1 a - A01 spoof\nS1 b - - bonafide\n", True),
        ("- a - - - spoof\n- b - - - bonafide\n", True),
        ("S a alaw tx A07 spoof notrim eval\nS b none - - bonafide notrim eval\n", True),
        ("S a mp3 asv A07 spoof notrim eval v - - - -\nS b no asv - bonafide notrim eval v - - - -\n", True),
        ("S a F - - - AC1 A14 spoof -\nS b M - - - - bonafide bonafide -\n", True),
        ("file,speaker,label\na,X Y,spoof\nb,X Y,bona-fide\n", True),
        ("speaker,file,label\nX Y,a,spoof\nX Y,b,bonafide\n", True),
        ("label\tfile\nspoof\ta\nbonafide\tb\n", True),
        ("file,duration\na,3\nb,4\n", False),
    ],
)
def test_the_form_of_a_protocol_is_recognised(tmp_path, content, has_labels):
    protocol = read_any_protocol(touch(tmp_path / "protocol", content))
    assert protocol.names.tolist() == ["a", "b"]
    assert (protocol.labels is not None) == has_labels
    if protocol.labels is not None:
        assert protocol.labels.tolist() == [0, 1]


def test_a_protocol_of_no_known_form_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r":1: found 3 columns \('a b c'\), expected"):
        read_any_protocol(touch(tmp_path / "protocol", "a b c\n"))


def test_a_form_of_ones_own_is_known_by_its_tracks_file(tmp_path):
    tracks = touch(tmp_path / "tracks.yaml", "formats: {mine: {columns: [label, _, trial]}}\n")
    protocol = read_any_protocol(touch(tmp_path / "protocol", "spoof x a\nbonafide y b\n"), tracks)
    assert protocol.names.tolist() == ["a", "b"]


@pytest.mark.parametrize("folder", [".", "flac", "wav"])
def test_trials_are_paired_with_recordings_of_any_type(tmp_path, folder):
    protocol = touch(tmp_path / "protocol", "a\nb.wav\n")
    touch(tmp_path / "audio" / folder / "a.mp3")
    touch(tmp_path / "audio" / folder / "b.wav")
    trials = listed_trials(protocol, tmp_path / "audio").trials
    assert [(trial.name, trial.path.name) for trial in trials] == [("a", "a.mp3"), ("b.wav", "b.wav")]


def test_a_missing_recording_is_an_error_unless_left_to_the_reader(tmp_path):
    protocol = touch(tmp_path / "protocol", "a\nb\n")
    touch(tmp_path / "audio" / "a.flac")
    with pytest.raises(FileNotFoundError, match=r"\b1 of 2 .*missing"):
        listed_trials(protocol, tmp_path / "audio")
    assert len(listed_trials(protocol, tmp_path / "audio", require_audio=False).trials) == 2


def test_all_recordings_below_a_directory_are_listed_by_name(tmp_path):
    for name in ("b.WAV", "sub/a.flac", "notes.txt", "c.m4a"):
        touch(tmp_path / name)
    assert [trial.name for trial in list_recordings(tmp_path)] == ["b.WAV", "c.m4a", "sub/a.flac"]


READABLE = [
    "a.wav",
    "b.AU",
    "c.Aif",
    "d.caf",
    "e.oga",
    "f.mp4",
    "g.sph",
    "h.dat",
    "noending",
    "sub/i.MP3",
    "j.wav.part",
]


def write_recordings(root: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000)
    kinds = {
        ".au": "AU",
        ".aif": "AIFF",
        ".caf": "CAF",
        ".oga": "OGG",
        ".sph": "NIST",
        ".dat": "FLAC",
        ".mp3": "MP3",
    }
    for name in READABLE:
        path = touch(root / name)
        if path.suffix == ".mp4":
            encode_by_av(path, samples.astype(np.float32), 16_000, "aac")
        else:
            soundfile.write(path, samples, 16_000, format=kinds.get(path.suffix.lower(), "WAV"))


def test_what_can_be_read_alone_is_listed_whatever_it_is_called(tmp_path, caplog):
    write_recordings(tmp_path)
    companions = ["._a.wav", "sub/._i.MP3", "__MACOSX/a.wav", "@eaDir/a.wav/x.wav", ".DS_Store"]
    others = ["notes.txt", "utf16.txt", "list.csv", "cover.jpg", "empty"]
    for name in (*companions, *others):
        touch(tmp_path / name, "name,label\n" if name.endswith(".csv") else "")
    (tmp_path / "utf16.txt").write_text("a list of recordings\n" * 20, encoding="utf-16")
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)))
    listed = list_recordings(tmp_path)
    assert [trial.name for trial in listed] == sorted(READABLE)
    for trial in listed:
        assert len(read_audio(trial.path)) >= 16_000
    assert (
        f"passed over {len(companions) + len(others)} files that are no recordings: '.DS_Store', '._a.wav',"
        in caplog.text
    )


def test_a_recording_that_is_cut_short_is_listed_whatever_it_is_called_and_refused_when_it_is_read(tmp_path):
    write_recordings(tmp_path)
    content = (tmp_path / "noending").read_bytes()
    (tmp_path / "noending").write_bytes(content[: len(content) // 2])
    assert "noending" in [trial.name for trial in list_recordings(tmp_path)]


def test_a_list_finds_recordings_by_their_names_in_any_letters(tmp_path):
    write_recordings(tmp_path / "audio")
    protocol = touch(tmp_path / "list.txt", "a\nb\nc\nd\ne\nf.mp4\ng\nsub/i\n")
    found = [trial.path.name for trial in listed_trials(protocol, tmp_path / "audio").trials]
    assert found == ["a.wav", "b.AU", "c.Aif", "d.caf", "e.oga", "f.mp4", "g.sph", "i.MP3"]


def test_a_name_may_have_spaces(tmp_path):
    touch(tmp_path / "my voice.wav")
    assert [trial.name for trial in list_recordings(tmp_path)] == ["my voice.wav"]


def test_a_directory_without_recordings_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recording in"):
        list_recordings(tmp_path)
    for protocol in (None, touch(tmp_path / "protocol", "a\n")):
        with pytest.raises(FileNotFoundError, match="audio_dir: "):
            listed_trials(protocol, tmp_path / "nowhere")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_ends_of_lines_change_nothing(tmp_path, end):
    path = tmp_path / "list.txt"
    path.write_bytes(f"S A - - bonafide{end}S B - A01 spoof{end}".encode())
    protocol = read_any_protocol(path)
    assert protocol.names.tolist() == ["A", "B"]
    assert protocol.counts() == {"trials": 2, "bonafide": 1, "spoof": 1}


def test_a_directory_is_no_protocol(tmp_path):
    with pytest.raises(ValueError, match="found a directory, expected"):
        read_any_protocol(tmp_path)


def test_a_link_to_a_recording_that_is_gone_is_listed_and_one_to_a_folder_is_named(tmp_path, caplog):
    touch(tmp_path / "elsewhere" / "b.wav")
    audio = touch(tmp_path / "audio" / "a.wav").parent
    (audio / "gone.wav").symlink_to(tmp_path / "gone.wav")
    (audio / "part.wav").symlink_to(tmp_path / "elsewhere")
    assert [trial.name for trial in list_recordings(audio)] == ["a.wav", "gone.wav"]
    assert f"{audio / 'part.wav'} " in caplog.text


def test_a_recording_whose_name_is_not_utf8_is_refused_by_its_bytes(tmp_path):
    touch(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")))
    with pytest.raises(ValueError, match=r"found .*b'\\xff\.wav', expected .*UTF-8"):
        list_recordings(tmp_path)


@pytest.mark.parametrize("name", [".", "../calls", "../../audio/calls"])
def test_recordings_are_called_as_their_directory_wherever_the_user_stands(
    tmp_path, monkeypatch, name: str
) -> None:
    directory = tmp_path / "audio" / "calls"
    directory.mkdir(parents=True)
    (directory / "a.wav").touch()
    monkeypatch.chdir(directory)
    listed = listed_trials(None, Path(name))
    assert (listed.name, listed.corpus) == ("calls", "calls")


FORMS = {
    "asvspoof2019": "S{i} t{i} - - {label}\n",
    "asvspoof2021-la": "S{i} t{i} alaw ita_tx - {label} notrim eval\n",
    "asvspoof5": "S{i} t{i} F - - - - - {label} -\n",
    "in-the-wild-key": "- t{i} - - - {label}\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_known", [0, 1, 3])
def test_a_list_that_is_only_scored_may_lack_labels(tmp_path, form, num_known):
    labels = [*["spoof"] * num_known, *["-"] * (3 - num_known)]
    path = tmp_path / "list.txt"
    path.write_text("".join(FORMS[form].format(i=i, label=label) for i, label in enumerate(labels)))
    found = read_any_protocol(path)
    assert found.names.tolist() == ["t0", "t1", "t2"]
    assert (found.labels is None) == (num_known < 3)
    if num_known < 3:
        with pytest.raises(ValueError, match=rf"list.txt:{num_known + 1}: found label '-', expected"):
            read_protocol(path, load_formats()[form])


@pytest.mark.parametrize("label", ["x", "--", "spoofs"])
def test_a_label_that_is_wrong_is_named_in_a_list_that_is_only_scored_too(tmp_path, label):
    (tmp_path / "list.txt").write_text(f"S t0 - - spoof\nS t1 - - {label}\n")
    with pytest.raises(ValueError, match=rf"list.txt:2: found label '{label}', expected"):
        read_any_protocol(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("mark", "delimiter"), [(",", "comma"), ("\t", "tab"), (";", "semicolon"), ("|", "pipe")]
)
def test_a_list_with_named_columns_is_read_with_every_mark_between_them(tmp_path, mark, delimiter):
    rows = [("path", "label", "said"), ("my a.wav", "spoof", "a word"), ("b.wav", "bonafide", 'two "words"')]
    (tmp_path / "list.csv").write_text("".join(f"{mark.join(row)}\n" for row in rows))
    form = f"{{columns: {{trial: path, label: label}}, delimiter: {delimiter}}}"
    tracks = tmp_path / "own.yaml"
    tracks.write_text(f"formats: {{own: {form}}}\ntracks: {{}}\n")
    found = read_any_protocol(tmp_path / "list.csv", tracks)
    assert found.names.tolist() == ["my a.wav", "b.wav"]
    assert found.fields["said"].tolist() == ["a word", 'two "words"']


def test_the_list_of_a_multilingual_corpus_is_known(tmp_path):
    header = "path|original_file|language|duration|training_data|model_name|architecture|transcript"
    row = "./fake/de/vits/a.wav|x.wav|de|3.1|ljspeech|vits|vits|Guten Tag, sagte er; und ging."
    (tmp_path / "meta.csv").write_text(f"{header}\n{row}\n")
    found = read_any_protocol(tmp_path / "meta.csv")
    assert (found.names.tolist(), found.labels) == (["./fake/de/vits/a.wav"], None)
    assert found.fields["attack"].tolist() == ["vits"]
