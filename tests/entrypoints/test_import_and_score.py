"""A published checkpoint through the doors: imported, scored without training, and its scores the golden ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from entrypoints.evaluate import evaluate
from entrypoints.import_checkpoint import import_checkpoint
from entrypoints.score import score
from sls.data.tables.score_files import read_scores
from sls.tracking.store import connect

CPU = ["--num_workers", "0", "--device", "cpu"]


@pytest.fixture
def golden_audio(reference_dir: Path, tmp_path: Path) -> Path:
    """The golden waveforms as recordings in 32-bit floats, which hold them exactly."""
    waveforms = np.load(reference_dir / "golden" / "sls_tiny_eval.npz")["waveforms"]
    directory = tmp_path / "audio"
    directory.mkdir()
    for index, waveform in enumerate(waveforms):
        soundfile.write(directory / f"g{index}.wav", waveform, 16_000, subtype="FLOAT")
    return directory


def import_golden(reference_dir: Path) -> None:
    golden = reference_dir / "golden"
    arguments = ["--checkpoint", str(golden / "sls_tiny_epoch_0.pth"), "--xlsr", str(golden / "xlsr_tiny.pt")]
    result = CliRunner().invoke(import_checkpoint, [*arguments, "--recipe", "golden", "--licence", "none"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("backend", ["torchaudio", pytest.param("fairseq", marks=pytest.mark.slow)])
def test_imported_checkpoint_scores_as_the_seed_system(
    store, reference_dir, golden_audio, tmp_path, backend: str
) -> None:
    import_golden(reference_dir)
    output = tmp_path / "scores.txt"
    where = ["--audio_dir", str(golden_audio), "--output", str(output)]
    model = ["--model", "models:/xlsr-sls@recipe-golden", "--backend", backend]
    result = CliRunner().invoke(score, [*model, *where, *CPU])
    assert result.exit_code == 0, result.output
    table = read_scores(output)
    expected = np.load(reference_dir / "golden" / "sls_tiny_eval.npz")["log_probs"][:, 1]
    assert [Path(name).stem for name in table.names] == ["g0", "g1", "g2", "g3"]
    assert table.scores == pytest.approx(expected, abs=1e-5)
    sidecar = json.loads((tmp_path / "scores.txt.json").read_text())
    assert sidecar["num_trials"] == 4
    assert sidecar["backend"] == backend


@pytest.mark.slow
def test_names_with_spaces_are_scored_and_evaluated(store, reference_dir, golden_audio, tmp_path) -> None:
    import_golden(reference_dir)
    for path in golden_audio.iterdir():
        path.rename(path.with_name(path.name.replace("g", "clip ")))
    key = tmp_path / "key.csv"
    key.write_text(
        "file,label\n" + "".join(f"clip {i}.wav,{('spoof', 'bonafide')[i % 2]}\n" for i in range(4))
    )
    tracks = tmp_path / "own.yaml"
    tracks.write_text("tracks: {dev: {protocol: {files: key.csv, formats: csv}, audio: {extensions: ''}}}\n")
    output = tmp_path / "scores.txt"
    where = ["--protocol", str(key), "--audio_dir", str(golden_audio), "--output", str(output)]
    result = CliRunner().invoke(score, ["--model", "models:/xlsr-sls@recipe-golden", *where, *CPU])
    assert result.exit_code == 0, result.output
    assert sorted(read_scores(output).names) == [f"clip {i}.wav" for i in range(4)]
    wanted = [
        "--track",
        "dev",
        "--tracks",
        str(tracks),
        "--data_root",
        str(tmp_path),
        "--scores",
        str(output),
    ]
    result = CliRunner().invoke(evaluate, wanted)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_imported_version_says_where_it_comes_from(store, reference_dir) -> None:
    import_golden(reference_dir)
    version = connect().get_model_version_by_alias("xlsr-sls", "recipe-golden")
    assert version.tags["recipe"] == "golden"
    assert version.tags["licence"] == "none"
    assert version.tags["source"].endswith("sls_tiny_epoch_0.pth")
    assert len(version.tags["source_sha256"]) == 64


@pytest.mark.slow
def test_unreadable_recording_stops_a_scoring_run_or_is_left_out_but_never_scored(
    store, reference_dir, golden_audio, tmp_path
) -> None:
    import_golden(reference_dir)
    (golden_audio / "g1.wav").write_bytes(b"no audio")
    output = tmp_path / "scores.txt"
    arguments = [
        "--model",
        "models:/xlsr-sls@recipe-golden",
        "--audio_dir",
        str(golden_audio),
        "--output",
        str(output),
    ]
    for policy, place in (([], None), (["--max_failures", "1"], "incomplete")):
        result = CliRunner().invoke(score, [*arguments, *policy, *CPU])
        assert result.exit_code == 2
        assert "g1.wav" in result.stderr
        assert not output.exists()
        client = connect()
        run = client.search_runs(["1"], "tags.kind = 'score'", order_by=["attributes.start_time DESC"])[0]
        assert run.info.status == "FAILED"
        kept = {Path(item.path).name for item in client.list_artifacts(run.info.run_id, "incomplete")}
        assert kept == ({"scored.txt", "failures.tsv"} if place else set())


def test_file_that_is_no_published_checkpoint_is_refused(store, reference_dir, tmp_path) -> None:
    for name in ("xlsr_tiny.pt", "README.md"):
        arguments = ["--checkpoint", str(reference_dir / "golden" / name), "--recipe", "x"]
        result = CliRunner().invoke(import_checkpoint, arguments)
        assert result.exit_code == 2
        assert name in result.stderr
