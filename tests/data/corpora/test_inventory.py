"""Tests of `inventory` and `audio_inventory`, on small corpora."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sls.data.corpora.inventory import TrackInventory, describe_use, take_inventory
from sls.data.corpora.tracks import BUILT_IN_TRACKS, load_tracks

TRACKS = """
tracks:
  train:
    protocol: {files: train.txt, formats: asvspoof2019}
    audio: {folders: flac}
    download: [train.zip from example.org]
  LA:
    metrics: [eer, min_tdcf]
    subset: eval
    protocol: {files: eval.txt, formats: trial-list}
    key: {folders: keys, files: CM/trial_metadata.txt, formats: asvspoof2021-la}
    asv_metadata: {folders: keys, files: ASV/trial_metadata.txt, formats: asvspoof2021-asv}
    asv_scores: {folders: keys, files: ASV/score.txt, formats: asvspoof2021-asv-scores}
    audio: {folders: eval}
    download: {audio: audio.tar from example.org, key: keys.tar from example.org}
"""


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def corpus(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for folder, prefix, rate_hz in (("flac", "T", 16_000), ("eval", "E", 8_000)):
        (tmp_path / folder).mkdir()
        for index in range(4):
            path = tmp_path / folder / f"{prefix}_{index}.flac"
            soundfile.write(path, rng.uniform(-0.5, 0.5, rate_hz * (index + 1)), rate_hz)
    labels = ["bonafide", "spoof", "bonafide", "spoof"]
    write(tmp_path / "train.txt", "".join(f"S T_{i} - A01 {label}\n" for i, label in enumerate(labels)))
    write(tmp_path / "eval.txt", "".join(f"E_{i}\n" for i in range(4)))
    subsets = ["eval", "eval", "progress", "hidden_track"]
    rows = [f"S E_{i} c t A07 {labels[i]} notrim {subsets[i]}\n" for i in range(4)]
    write(tmp_path / "keys" / "CM" / "trial_metadata.txt", "".join(rows))
    roles = ["target", "nontarget", "spoof"]
    write(
        tmp_path / "keys" / "ASV" / "trial_metadata.txt",
        "".join(f"S E_{i} c t A07 {role} notrim eval\n" for i, role in enumerate(roles)),
    )
    write(tmp_path / "keys" / "ASV" / "score.txt", "".join(f"S E_{i} {i}\n" for i in range(3)))
    write(tmp_path / "tracks.yaml", TRACKS)
    return tmp_path


def take(corpus: Path, **options) -> dict[str, TrackInventory]:
    tracks = load_tracks(corpus / "tracks.yaml").values()
    return {item.track: item for item in take_inventory(tracks, corpus, **options)}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("depth", ["names", "headers", "decode"])
def test_a_whole_corpus_is_usable(corpus, depth, num_workers):
    found = take(corpus, depth=depth, num_workers=num_workers)
    for item in found.values():
        assert item.problems == ()
        assert item.is_usable
        assert item.can_score
        assert (item.audio.present, item.audio.missing, item.audio.extra) == (4, 0, 0)
        assert item.audio.checked == (0 if depth == "names" else 4)
        assert item.download == ()
    assert found["train"].can_train
    assert found["LA"].metrics == ("eer", "min_tdcf")
    assert found["LA"].asv_trials == {"target": 1, "nontarget": 1, "spoof": 1}
    key = found["LA"].key
    assert key is not None
    assert key.counts == {"trials": 4, "bonafide": 2, "spoof": 2}
    assert key.subsets == {"eval": 2, "progress": 1, "hidden": 1}


@pytest.mark.parametrize(("name", "can_score"), [("T 0", True), ("T\u00a0 0", True), ("T\t0", False)])
def test_a_track_can_be_scored_if_a_score_file_can_hold_its_names(corpus, name, can_score):
    write(corpus / "train.txt", f"file,label\n{name},bonafide\nT_1,spoof\n")
    write(corpus / "tracks.yaml", TRACKS.replace("asvspoof2019", "csv"))
    (corpus / "flac" / "T_0.flac").rename(corpus / "flac" / f"{name}.flac")
    found = take(corpus)["train"]
    assert (found.can_score, found.is_usable) == (can_score, can_score)
    assert can_score or "expected one without control characters" in found.problems[0]


def test_durations_and_rates_are_told(corpus):
    audio = take(corpus)["LA"].audio
    assert (audio.total_duration_s, audio.shortest_s, audio.longest_s) == (10.0, 1.0, 4.0)
    assert audio.sample_rates_hz == {8_000: 4}


def test_missing_extra_and_unreadable_recordings_are_told(corpus):
    (corpus / "eval" / "E_0.flac").unlink()
    (corpus / "eval" / "E_9.flac").write_bytes(b"extra")
    content = (corpus / "eval" / "E_3.flac").read_bytes()
    (corpus / "eval" / "E_3.flac").write_bytes(content[: len(content) // 2])
    by_header = take(corpus)["LA"]
    assert by_header.audio.unreadable == ()  # its header is whole
    item = take(corpus, depth="decode")["LA"]
    assert (item.audio.present, item.audio.missing, item.audio.extra) == (3, 1, 1)
    assert item.audio.missing_examples == (str(corpus / "eval" / "E_0.flac"),)
    assert [Path(bad.path).name for bad in item.audio.unreadable] == ["E_3.flac"]
    assert not item.can_score
    assert not item.is_usable
    assert item.metrics == ("eer", "min_tdcf")  # scores that are there already can still be evaluated
    missing, unreadable = item.problems
    assert re.fullmatch(r"track LA: 1 of 4 .*missing.* E_0\.flac", missing)
    assert re.match(rf"track LA: 1 of 3 .*: {re.escape(str(corpus))}", unreadable)
    assert item.audio.extra_examples == ("E_9.flac",)
    assert item.download == ("audio.tar from example.org",)


def test_a_key_that_does_not_cover_the_protocol_is_told(corpus):
    path = corpus / "keys" / "CM" / "trial_metadata.txt"
    path.write_text(path.read_text().replace("E_0", "E_7"))
    item = take(corpus)["LA"]
    assert item.key is not None
    assert (item.key.unkeyed, item.key.unlisted) == (1, 1)
    assert not item.is_usable


def test_a_key_without_trials_of_the_track_s_subset_earns_nothing(corpus):
    path = corpus / "keys" / "CM" / "trial_metadata.txt"
    path.write_text(path.read_text().replace(" eval\n", " progress\n"))
    item = take(corpus)["LA"]
    assert item.metrics == ()
    assert item.problems[0].endswith(" subset=hidden or progress")


def test_without_asv_scores_the_tdcf_is_not_earned(corpus):
    (corpus / "keys" / "ASV" / "score.txt").unlink()
    item = take(corpus)["LA"]
    assert item.metrics == ("eer",)
    assert "no ASV scores" in item.problems[0]
    assert item.download == ("keys.tar from example.org",)


def test_without_a_key_one_can_still_score(corpus):
    (corpus / "keys" / "CM" / "trial_metadata.txt").unlink()
    item = take(corpus)["LA"]
    assert item.can_score
    assert not item.can_train
    assert item.metrics == ()
    assert "no key" in item.problems[0]
    assert item.download == ("keys.tar from example.org",)
    assert not item.is_absent


@pytest.mark.parametrize("name", ["train.txt", "keys/CM/trial_metadata.txt", "keys/ASV/trial_metadata.txt"])
def test_a_file_that_is_wrong_is_not_absent_even_if_it_is_all_there_is(corpus, name):
    content = (corpus / name).read_text()
    for path in corpus.rglob("*.txt"):
        path.unlink()
    write(corpus / name, content.removesuffix("\n").rpartition(" ")[0] + "\n")
    if "ASV" in name:
        write(corpus / "keys" / "ASV" / "score.txt", "S E_0 0\n")
    by_track = take(corpus)
    item = by_track.pop("train" if name == "train.txt" else "LA")
    assert not item.is_absent
    assert any(str(corpus / name) in problem for problem in item.problems)
    assert all(other.is_absent for other in by_track.values())


def test_labels_of_one_class_are_nothing_to_train_on(corpus):
    path = corpus / "train.txt"
    path.write_text(path.read_text().replace("bonafide", "spoof"))
    assert not take(corpus)["train"].can_train


def test_other_counts_than_published_are_told_with_the_rest(corpus):
    text = TRACKS.replace("audio: {folders: flac}", "audio: {folders: flac}\n    counts: {all: {trials: 5}}")
    write(corpus / "tracks.yaml", text)
    item = take(corpus)["train"]
    assert item.trials == 4
    assert item.audio.present == 4
    assert len(item.problems) == 1
    assert re.search(r"found 4 trials .*\ball\b.*expected 5\b", item.problems[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_progress_is_told_to_the_end_of_each_track(corpus, num_workers):
    told: list[tuple] = []
    take(corpus, num_workers=num_workers, show=lambda *step: told.append(step))
    assert told == [("train", 4, 4), ("LA", 4, 4)]


def test_an_empty_data_root_says_what_to_download(tmp_path):
    items = take_inventory(load_tracks().values(), tmp_path)
    assert len(items) == len(load_tracks())
    lines = describe_use(items)
    assert lines[:4] == [
        "can train on: nothing",
        "can validate on: nothing",
        "can score: nothing",
        "can evaluate: nothing",
    ]
    assert any("DF-keys-full.tar.gz" in line and "DF" in line.partition(":")[0].split() for line in lines)
    assert all(item.is_absent and not item.is_usable for item in items)
    by_name = {item.track: item for item in items}
    assert by_name["DF"].download == load_tracks()["DF"].downloads()
    assert [problem.partition(":")[0] for problem in by_name["DF"].problems] == ["track DF"]


def test_the_end_of_the_report_says_what_can_be_run(corpus):
    assert describe_use(list(take(corpus).values())) == [
        "can train on: train",
        "can validate on: LA",
        "can score: train, LA",
        "can evaluate: train (eer), LA (eer, min_tdcf)",
    ]


def test_an_inventory_can_be_written_as_json(corpus):
    text = json.dumps([dataclasses.asdict(item) for item in take(corpus).values()])
    assert json.loads(text)[1]["audio"]["sample_rates_hz"] == {"8000": 4}


def test_a_data_root_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_root: .*nowhere"):
        take_inventory(load_tracks().values(), tmp_path / "nowhere")


@pytest.mark.slow
def test_every_file_of_minispoof_decodes(reference_dir):
    tracks = load_tracks(BUILT_IN_TRACKS.parent / "minispoof.tracks.yaml").values()
    items = take_inventory(tracks, reference_dir / "minispoof", depth="decode", num_workers=2)
    assert [item.audio.present for item in items] == [600, 300, 800, 800]
    assert all(item.is_usable and item.audio.sample_rates_hz == {16_000: item.trials} for item in items)
