"""Tests of `tracks`, `track_schema` and `published_counts`: what a tracks file may say, and what it makes usable."""

from pathlib import Path

import pytest
import yaml

from sls.config import PROJECT_ROOT
from sls.data.corpora.tracks import BUILT_IN_TRACKS, METRICS, load_tracks
from sls.data.tables.asv_scores import Role


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_the_built_in_file_holds_the_named_tracks():
    tracks = load_tracks()
    assert list(tracks) == ["train", "dev", "LA", "DF", "In-the-Wild", "ASVspoof2019-LA", "ASVspoof5"]
    assert tracks["LA"].metrics == ("eer", "min_tdcf")
    assert tracks["DF"].default_subset == "eval"
    for track in tracks.values():
        assert track.download, track.name
        assert set(track.metrics) <= set(METRICS)


def test_published_counts_add_up():
    for track in load_tracks().values():
        asv = track.counts.get("asv", {})
        assert sum(asv.values()) in (asv.get("trials", 0), 2 * asv.get("trials", 0)), track.name
        of_subsets = {name: counts for name, counts in track.counts.items() if name != "asv"}
        for counts in of_subsets.values():
            assert counts["bonafide"] + counts["spoof"] == counts["trials"]
        subsets = [counts for name, counts in of_subsets.items() if name != "all"]
        for name in ("trials", "bonafide", "spoof") if subsets else ():
            assert sum(counts[name] for counts in subsets) == track.counts["all"][name], track.name


def test_the_example_of_csv_lists_reads_what_it_describes(tmp_path):
    text = (PROJECT_ROOT / "configs" / "csv.tracks.yaml").read_text()
    described = [
        line.removeprefix("#").removeprefix("   train.csv, dev.csv").strip() for line in text.splitlines()
    ]
    start = described.index("file,reader,system,class")
    for name in ("train.csv", "dev.csv"):
        write(tmp_path / name, "\n".join(described[start : start + 3]) + "\n")
    for name in ("anna_01.wav", "anna_02.wav"):
        write(tmp_path / "wav" / name)
    for track in load_tracks(PROJECT_ROOT / "configs" / "csv.tracks.yaml").values():
        trials = track.trials(tmp_path, is_labelled=True)
        assert [(trial.path.name, trial.label) for trial in trials] == [
            ("anna_01.wav", 1),
            ("anna_02.wav", 0),
        ]
        fields = track.key(tmp_path).fields
        assert (fields["attack"].tolist(), fields["speaker"].tolist()) == (
            ["-", "tacotron"],
            ["anna", "anna"],
        )


def edit(change) -> dict:
    document = {
        "formats": {"own": {"columns": {"trial": "clip", "label": "class"}, "delimiter": "tab"}},
        "tracks": {
            "Mine": {
                "protocol": {"files": "clips.tsv", "formats": "own"},
                "audio": {"folders": "clips", "extensions": [".mp3"]},
            }
        },
    }
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["tracks"]["Mine"].update(metric="eer"),
            r"tracks\.Mine: found metric.*did you mean metrics",
        ),
        (
            lambda d: d["tracks"]["Mine"].update(metrics="err"),
            r"Mine\.metrics: found err, expected some of: eer",
        ),
        (lambda d: d["tracks"]["Mine"].pop("protocol"), r"tracks\.Mine: found neither protocol nor key"),
        (lambda d: d["tracks"]["Mine"].pop("audio"), r"tracks\.Mine: found no audio"),
        (lambda d: d["tracks"]["Mine"]["audio"].update(folder="x"), r"Mine\.audio: found folder"),
        (
            lambda d: d["tracks"]["Mine"]["protocol"].update(formats="no"),
            r"protocol\.formats: found no, expected",
        ),
        (lambda d: d["tracks"]["Mine"]["protocol"].pop("files"), r"protocol\.files: found None"),
        (
            lambda d: d["tracks"]["Mine"].update(counts={"all": {"trials": "9"}}),
            r"counts\.all\.trials: found '9'",
        ),
        (lambda d: d["tracks"]["Mine"].update(counts={"all": {"total": 9}}), r"Mine\.counts\.all: found"),
        (
            lambda d: d["tracks"]["Mine"].update(counts={"asv": {"bonafide": 9}}),
            r"counts\.asv: found .*, expected some of trials, target, nontarget, spoof",
        ),
        (lambda d: d["formats"]["own"].update(delimiter="bar"), r"formats\.own\.delimiter: found bar"),
        (
            lambda d: d["formats"]["own"].update(columns=["trial", "trial"]),
            r"own\.columns: found trial twice",
        ),
        (lambda d: d["formats"]["own"].update(labels={"fake": "x"}), r"own\.labels: found fake"),
        (lambda d: d["formats"]["own"].update(labels={"spoof": "x"}), r"own\.labels: .*bonafide and spoof"),
        (lambda d: d["formats"].update(own="tab"), r"formats\.own: found 'tab', expected"),
        (
            lambda d: d["formats"]["own"].update(columns=["label"]),
            r"protocol\.formats: found own .*\btrial\b",
        ),
        (
            lambda d: d["tracks"]["Mine"].update(speakers={"files": "speakers.tsv", "formats": "own"}),
            r"speakers\.formats: found own .*\bspeaker\b",
        ),
        (lambda d: d.pop("tracks"), r"found no tracks"),
        (lambda d: d.update(track={}), r"found track, expected some of .*did you mean tracks"),
    ],
)
def test_a_mistake_in_a_tracks_file_names_file_and_entry(tmp_path, change, message):
    path = write(tmp_path / "mine.yaml", yaml.safe_dump(edit(change)))
    with pytest.raises(ValueError, match=message) as caught:
        load_tracks(path)
    assert str(caught.value).startswith(str(path))


def test_a_tracks_file_that_is_not_yaml_or_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"bad\.yaml: not YAML"):
        load_tracks(write(tmp_path / "bad.yaml", "tracks: [\n"))
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        load_tracks(tmp_path / "none.yaml")


def test_a_corpus_of_ones_own_needs_a_tracks_file_alone(tmp_path):
    path = write(tmp_path / "mine.yaml", yaml.safe_dump(edit(lambda document: None)))
    write(tmp_path / "clips.tsv", "clip\tclass\ttool\nsub/a\tspoof\txtts\nsub/b\tbona-fide\t-\n")
    for name in ("a", "b"):
        write(tmp_path / "clips" / "sub" / f"{name}.mp3")
    track = load_tracks(path)["Mine"]
    assert [(trial.name, trial.label) for trial in track.trials(tmp_path)] == [("sub/a", 0), ("sub/b", 1)]
    assert track.key(tmp_path).fields["tool"].tolist() == ["xtts", "-"]


def test_a_column_named_path_gives_the_recording(tmp_path):
    document = edit(lambda d: d["formats"]["own"]["columns"].update(path="where"))
    path = write(tmp_path / "mine.yaml", yaml.safe_dump(document))
    write(tmp_path / "clips.tsv", "clip\tclass\twhere\na\tspoof\tx/1\nb\tbonafide\ty/1\n")
    for folder in ("x", "y"):
        write(tmp_path / "clips" / folder / "1.mp3")
    trials = load_tracks(path)["Mine"].trials(tmp_path)
    assert [trial.path.relative_to(tmp_path).as_posix() for trial in trials] == [
        "clips/x/1.mp3",
        "clips/y/1.mp3",
    ]


MINISPOOF = """
tracks:
  train:
    protocol: {folders: MS_cm_protocols, files: MS.cm.train.trn.txt, formats: asvspoof2019}
    audio: {folders: MS_train/flac}
    counts: {all: {trials: 600, bonafide: 240, spoof: 360}}
  dev:
    protocol: {folders: MS_cm_protocols, files: MS.cm.dev.trl.txt, formats: asvspoof2019}
    audio: {folders: MS_dev/flac}
    counts: {all: {trials: 300, bonafide: 120, spoof: 180}}
  LA:
    metrics: [eer, min_tdcf]
    subset: eval
    breakdown: [attack, codec]
    protocol: {folders: MS_cm_protocols, files: MS.cm.eval.list.txt, formats: trial-list}
    key: {folders: keys/LA, files: CM/trial_metadata.txt, formats: asvspoof2021-la}
    asv_metadata: {folders: keys/LA, files: ASV/trial_metadata.txt, formats: asvspoof2021-asv}
    asv_scores: {folders: keys/LA, files: ASV/ASVTorch_Kaldi/score.txt, formats: asvspoof2021-asv-scores}
    audio: {folders: MS_eval/flac}
  DF:
    subset: eval
    breakdown: [vocoder, compression]
    protocol: {folders: MS_cm_protocols, files: MS.cm.eval.list.txt, formats: trial-list}
    key: {folders: keys/DF, files: CM/trial_metadata.txt, formats: asvspoof2021-df}
    audio: {folders: MS_eval/flac}
"""


@pytest.mark.parametrize("source", ["written", "example"])
def test_a_tracks_file_alone_makes_minispoof_usable(tmp_path, reference_dir, source):
    path = BUILT_IN_TRACKS.parent / "minispoof.tracks.yaml"
    if source == "written":
        path = write(tmp_path / "tracks.yaml", MINISPOOF)
    tracks = load_tracks(path)
    root = reference_dir / "minispoof"
    assert [len(tracks[name].trials(root, is_labelled=True)) for name in tracks] == [600, 300, 800, 800]
    for name in ("LA", "DF"):
        key = tracks[name].key(root)
        sizes = [len(key.select_subset(subset)) for subset in ("eval", "progress", "hidden")]
        assert sizes == [620, 100, 80]
        assert set(tracks[name].breakdown) <= set(key.fields)
    asv = tracks["LA"].asv_scores(root, subset="all")
    assert asv is not None
    assert len(asv) == 3_360
    assert set(asv.fields["attack"][asv.roles == Role.SPOOF]) == {"A05", "A06", "A07", "A08"}
