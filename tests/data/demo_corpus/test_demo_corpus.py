"""Tests of `build`, `plan`, `tables` and `recording`, by making the demo corpus."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from benchmarks.demo_corpus import eer_either_way, measure_parts, score_log_mel
from sls.config import PROJECT_ROOT
from sls.data.corpora.tracks import load_tracks
from sls.data.demo_corpus import build, make_demo_corpus
from sls.data.demo_corpus.plan import PARTS, SEEN_ATTACKS, UNSEEN_ATTACKS, count_trials, plan_corpus
from sls.data.demo_corpus.recording import WILD_FORMATS, make_trial
from sls.data.demo_corpus.tables import audio_path
from sls.metrics.eer import compute_eer

pytestmark = pytest.mark.slow

SMALL = 0.02
PYTHON = sys.executable  # which `silent_workers` replaces

LOWEST_TRIVIAL_EER = 0.30
"""Of 20 features on 6 parts the luckiest reaches 35 to 40 % on 100 to 200 trials by chance alone."""


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_corpus(tmp_path_factory.mktemp("small") / "demo", scale=SMALL, num_workers=1)


@pytest.fixture
def silent_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes no recordings, for tests of what surrounds them."""
    monkeypatch.setattr(build.sys, "executable", "true")


def digest_of(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", PARTS)
def test_built_in_tracks_read_every_part(small_corpus: Path, name: str) -> None:
    track = load_tracks()[name]
    trials = track.trials(small_corpus, subset="all")
    key = track.key(small_corpus)
    planned = count_trials(plan_corpus(1234, SMALL))[name]["all"]
    assert key.counts() == planned
    assert sorted(trial.name for trial in trials) == sorted(key.names)
    assert {trial.path.relative_to(small_corpus) for trial in trials} == {
        audio_path(trial) for trial in plan_corpus(1234, SMALL) if trial.part == name
    }
    assert all(soundfile.info(trial.path).duration > 0.8 for trial in trials)


def test_protocols_have_the_columns_of_the_real_corpora(small_corpus: Path) -> None:
    protocols = small_corpus / "LA/ASVspoof2019_LA_cm_protocols"
    train = read_rows(protocols / "ASVspoof2019.LA.cm.train.trn.txt")
    assert {len(row) for row in train} == {5}
    assert {(row[2], row[4]) for row in train} == {("-", "bonafide"), ("-", "spoof")}
    assert {len(row) for row in read_rows(small_corpus / "keys/LA/CM/trial_metadata.txt")} == {8}
    deepfakes = read_rows(small_corpus / "keys/DF/CM/trial_metadata.txt")
    assert {len(row) for row in deepfakes} == {13}
    assert {row[3] for row in deepfakes} == {"asvspoof", "vcc2018", "vcc2020"}
    for speaker, _, _, source, attack, label, _, _, vocoder, task, team, genders, language in deepfakes:
        assert (label == "bonafide") == (attack == "-") == (vocoder == "bonafide")
        if source == "asvspoof" or label == "bonafide":
            assert (task, team, genders, language) == ("-", "-", "-", "-")
        else:
            assert f"{task}-{team}" == attack
            assert genders in ("FF", "FM", "MF", "MM")
            assert genders[1] == speaker[-2]
            assert language in ("E", "G")
    header, *wild = (small_corpus / "release_in_the_wild/meta.csv").read_text().splitlines()
    assert header == "file,speaker,label"
    assert {row.split(",")[2] for row in wild} == {"bona-fide", "spoof"}


def test_recordings_have_the_formats_of_the_real_corpora(small_corpus: Path) -> None:
    flac = [soundfile.info(path) for path in small_corpus.rglob("*.flac")]
    wild = [soundfile.info(path) for path in small_corpus.rglob("*.wav")]
    assert {(info.format, info.samplerate, info.channels) for info in flac} == {("FLAC", 16_000, 1)}
    assert {info.format for info in wild} == {"WAV"}
    assert {(info.samplerate, info.subtype, info.channels) for info in wild} == set(WILD_FORMATS)


def test_asv_scores_stand_row_by_row_beside_their_trials(small_corpus: Path) -> None:
    directory = small_corpus / "keys/LA/ASV"
    trials = read_rows(directory / "trial_metadata.txt")
    scores = read_rows(directory / "ASVTorch_Kaldi/score.txt")
    assert [row[:2] for row in trials] == [row[:2] for row in scores]
    assert set(Counter(row[5] for row in trials)) == {"target", "nontarget", "spoof"}


@pytest.mark.parametrize("name", ["LA", "ASVspoof2019-LA"])
def test_asv_scores_of_the_classes_overlap(tmp_path: Path, silent_workers: None, name: str) -> None:
    scores = load_tracks()[name].asv_scores(make_demo_corpus(tmp_path / "demo"))
    assert scores is not None
    target, nontarget, spoof = scores.by_role()
    assert 0.01 < compute_eer(target, nontarget).eer < 0.15
    assert 0.15 < compute_eer(target, spoof).eer < 0.5


def test_evaluation_has_other_attacks_and_speakers_than_training() -> None:
    trials = plan_corpus(1234, 1.0)
    attacks = {part: {t.attack for t in trials if t.part == part and t.label == "spoof"} for part in PARTS}
    speakers = {part: {t.speaker for t in trials if t.part == part} for part in PARTS}
    assert attacks["train"] == attacks["dev"] == set(SEEN_ATTACKS)
    assert attacks["LA"] == attacks["ASVspoof2019-LA"] == set(UNSEEN_ATTACKS)
    assert attacks["DF"] > set(UNSEEN_ATTACKS)
    for part in ("ASVspoof2019-LA", "LA", "DF", "In-the-Wild"):
        assert not attacks[part] & set(SEEN_ATTACKS)
        assert not speakers[part] & (speakers["train"] | speakers["dev"])
    assert not speakers["train"] & speakers["dev"]


def test_every_codec_of_LA_meets_both_classes_and_every_attack() -> None:
    trials = [trial for trial in plan_corpus(1234, 1.0) if trial.part == "LA" and trial.subset == "eval"]
    codecs = {trial.codec for trial in trials}
    attacks = {trial.attack for trial in trials}
    assert len({(trial.codec, trial.attack) for trial in trials}) == len(codecs) * len(attacks)


def test_every_compression_of_DF_meets_both_classes() -> None:
    trials = [trial for trial in plan_corpus(1234, 1.0) if trial.part == "DF" and trial.subset == "eval"]
    codecs = {trial.codec for trial in trials}
    assert len({(trial.codec, trial.label) for trial in trials}) == 2 * len(codecs) == 18


def test_every_speaker_meets_every_attack_of_training() -> None:
    trials = [trial for trial in plan_corpus(1234, 1.0) if trial.part == "train"]
    met = {(trial.speaker, trial.attack) for trial in trials}
    assert len(met) == len({trial.speaker for trial in trials}) * len({trial.attack for trial in trials})


def test_same_seed_makes_the_same_bytes_whatever_the_number_of_processes(
    small_corpus: Path, tmp_path: Path
) -> None:
    again = make_demo_corpus(tmp_path / "demo", scale=SMALL, num_workers=2)
    assert digest_of(again) == digest_of(small_corpus)


def test_another_seed_makes_other_recordings() -> None:
    trial = plan_corpus(1234, SMALL)[0]
    assert not np.array_equal(make_trial(trial, 1234)[:8000], make_trial(trial, 1235)[:8000])


def test_finished_corpus_is_found_and_left_alone(small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "plan_corpus", None)
    assert make_demo_corpus(small_corpus, scale=SMALL) == small_corpus


def test_corpus_of_another_seed_is_replaced(tmp_path: Path, silent_workers: None) -> None:
    root = make_demo_corpus(tmp_path / "demo", seed=1, scale=SMALL)
    before = (root / "release_in_the_wild/meta.csv").read_text()
    make_demo_corpus(root, seed=2, scale=SMALL)
    assert yaml.safe_load((root / "DEMO.yaml").read_text())["seed"] == 2
    assert (root / "release_in_the_wild/meta.csv").read_text() != before
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_corpus_of_an_older_version_is_made_anew(tmp_path: Path, silent_workers: None) -> None:
    root = make_demo_corpus(tmp_path / "demo", scale=SMALL)
    note = yaml.safe_load((root / "DEMO.yaml").read_text())
    (root / "DEMO.yaml").write_text(yaml.safe_dump({**note, "version": note["version"] - 1}))
    (root / "old.flac").write_bytes(b"")
    make_demo_corpus(root, scale=SMALL)
    assert yaml.safe_load((root / "DEMO.yaml").read_text()) == note
    assert not (root / "old.flac").exists()


def start_making(root: Path, worker_s: float) -> subprocess.Popen[str]:
    """Starts a process that makes a corpus without recordings, whose workers take their time."""
    worker = root.with_name("worker")
    worker.write_text(f"#!/bin/sh\nexec sleep {worker_s}\n")
    worker.chmod(0o755)
    code = (
        "import logging, sys; from sls.data.demo_corpus import make_demo_corpus; "
        "logging.basicConfig(level='INFO'); "
        f"sys.executable = {str(worker)!r}; make_demo_corpus({str(root)!r}, scale={SMALL})"
    )
    return subprocess.Popen(
        [PYTHON, "-c", code],
        cwd=PROJECT_ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_tables(directory: Path) -> None:
    deadline_s = time.monotonic() + 60
    while not list(directory.rglob("score.txt")):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_of_two_processes_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    first = start_making(root, worker_s=3)
    wait_for_tables(tmp_path)
    second = start_making(root, worker_s=3)
    logs = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], logs
    assert ["recordings in" in log for log in logs] == [True, False]
    assert build.read_origin(root) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "worker"]


def test_killed_process_leaves_no_half_corpus_and_stops_nobody(tmp_path: Path, silent_workers: None) -> None:
    root = tmp_path / "demo"
    process = start_making(root, worker_s=100)
    wait_for_tables(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not root.exists()
    make_demo_corpus(root, scale=SMALL)
    assert build.read_origin(root) is not None


def test_failing_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.sys, "executable", "false")
    with pytest.raises(ChildProcessError, match=r"\b2 of 2\b"):
        make_demo_corpus(tmp_path / "demo", scale=SMALL, num_workers=2)
    assert not list(tmp_path.iterdir())


def test_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(ValueError, match="found other files, expected"):
        make_demo_corpus(tmp_path, scale=SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_scale_that_is_not_positive_is_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ValueError, match=f"scale: found {scale}, expected"):
        make_demo_corpus(tmp_path / "demo", scale=scale)


def test_corpus_says_what_it_is(small_corpus: Path) -> None:
    note = yaml.safe_load((small_corpus / "CORPUS.yaml").read_text())
    assert note["corpus"] == "demo"
    assert note["counts"] == count_trials(plan_corpus(1234, SMALL))
    assert yaml.safe_load((small_corpus / "DEMO.yaml").read_text()) == {
        "version": build.VERSION,
        "seed": 1234,
        "scale": SMALL,
    }
    assert "say nothing about real" in (small_corpus / "README.txt").read_text()


def test_worker_imports_no_torch() -> None:
    code = "import sys, sls.data.demo_corpus.recording; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_trivial_features_do_not_separate_the_classes_but_spectra_do(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    parts = measure_parts(make_demo_corpus(tmp_path_factory.mktemp("full") / "demo"))
    eers = {
        (name, feature): eer_either_way(values, part.labels)
        for name, part in parts.items()
        for feature, values in part.trivial.items()
    }
    assert min(eers.values()) > LOWEST_TRIVIAL_EER, min(eers, key=eers.__getitem__)
    spectral = {
        name: eer_either_way(score_log_mel(parts["train"], part), part.labels) for name, part in parts.items()
    }
    assert spectral["dev"] < 0.25  # seen attacks can be learned
    for track in ("ASVspoof2019-LA", "LA", "DF", "In-the-Wild"):
        assert spectral["dev"] < spectral[track] < 0.5  # unseen attacks are harder
