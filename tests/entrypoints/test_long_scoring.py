"""Scoring that is cut, repeated, divided and joined: the score file is the same to the byte."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from entrypoints.join import join
from entrypoints.score import score
from sls.data.tables.score_files import read_scores
from sls.tracking.scoring import score_file, scoring_run
from sls.tracking.store import connect
from tests.entrypoints.scoring_work import make_checkpoint, make_recordings, score_command

pytestmark = pytest.mark.slow

NUM_RECORDINGS = 22


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("audio") / "noises", NUM_RECORDINGS)


def run_score(*arguments: str) -> Result:
    return CliRunner().invoke(score, list(arguments))


@contextmanager
def broken(recording: Path) -> Iterator[None]:
    content = recording.read_bytes()
    recording.write_bytes(b"no audio")
    try:
        yield
    finally:
        recording.write_bytes(content)


def newest_run():
    return connect().search_runs(["1"], order_by=["attributes.start_time DESC"])[0]


@pytest.fixture
def whole(store, model, audio, tmp_path) -> Path:
    output = tmp_path / "whole" / "scores.txt"
    result = run_score(*score_command(model, audio, output))
    assert result.exit_code == 0, result.output
    assert f"{NUM_RECORDINGS} scored, 0 failures" in result.output
    return output


def test_a_score_file_is_alone_with_what_made_it(whole) -> None:
    assert {path.name for path in whole.parent.iterdir()} == {"scores.txt", "scores.txt.json"}
    sidecar = json.loads(whole.with_name("scores.txt.json").read_text())
    assert (sidecar["precision"], sidecar["eval_batch_size"], sidecar["num_trials"]) == ("fp32", 4, 22)
    assert sidecar["linear_layers"] in ("packed", "plain")
    assert len(read_scores(whole)) == NUM_RECORDINGS


def test_a_run_that_an_error_cut_is_continued_to_the_same_bytes(whole, model, audio, tmp_path) -> None:
    output = tmp_path / "cut.txt"
    with broken(audio / "r0013.wav"):
        result = run_score(*score_command(model, audio, output))
    assert result.exit_code == 2
    assert not output.exists()
    result = run_score(*score_command(model, audio, output))
    assert result.exit_code == 0, result.output
    assert "14 scored (8 more were there)" in result.output
    assert output.read_bytes() == whole.read_bytes()


def test_recordings_that_were_left_out_are_tried_again(whole, model, audio, tmp_path) -> None:
    output = tmp_path / "cut.txt"
    with broken(audio / "r0013.wav"):
        result = run_score(*score_command(model, audio, output, "--max_failures", "1"))
    assert result.exit_code == 2
    assert re.search(r"\b1 of 22 recordings\b", result.stderr)
    result = run_score(*score_command(model, audio, output))
    assert "4 scored (18 more were there)" in result.output
    assert output.read_bytes() == whole.read_bytes()


def test_a_finished_result_is_found_and_said_unless_forced(whole, model, audio) -> None:
    made_ns = whole.stat().st_mtime_ns
    result = run_score(*score_command(model, audio, whole))
    assert result.exit_code == 0, result.output
    assert "Already scored" in result.output
    assert whole.stat().st_mtime_ns == made_ns
    found = newest_run()
    assert found.info.status == "FINISHED"
    assert {item.path for item in connect().list_artifacts(found.info.run_id, "scores")} == {
        "scores/scores.txt",
        "scores/scores.txt.json",
    }
    expected = whole.read_bytes()
    result = run_score(*score_command(model, audio, whole, "--force", "true"))
    assert "22 scored, 0 failures" in result.output
    assert whole.read_bytes() == expected


def test_without_an_output_the_finished_run_is_found_on_the_server(
    store, model, audio, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(scoring_run, "OUTPUT_DIRECTORY", tmp_path / "outputs")
    arguments = score_command(model, audio, tmp_path)
    at = arguments.index("--output")
    del arguments[at : at + 2]
    assert "22 scored" in run_score(*arguments).output
    (output,) = (tmp_path / "outputs").rglob("noises.txt")
    expected = output.read_bytes()
    output.unlink()
    result = run_score(*arguments)
    assert "Already scored" in result.output
    assert output.read_bytes() == expected
    # What is kept of the runs is damaged, then gone: no result, and no reason not to make it.
    for damage in (lambda path: path.write_text("r0000.wav 1\n"), Path.unlink):
        for kept in tmp_path.glob("**/scores/noises.txt"):
            damage(kept)
        output.unlink()
        assert "22 scored" in run_score(*arguments).output
        assert output.read_bytes() == expected


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--precision", "bf16"], "precision fp32.*expected precision bf16"),
        (["--eval_batch_size", "5"], "eval_batch_size 4, expected .*eval_batch_size 5"),
        (["--resampler", "kaiser_best"], "resampler soxr, expected .*kaiser_best"),
        (["--window_hop", "4000"], "window_hop 0, window_combination none, expected .*window_hop 4000"),
    ],
)
def test_scores_of_other_settings_are_not_overwritten(whole, model, audio, change, named: str) -> None:
    expected = whole.read_bytes()
    result = run_score(*score_command(model, audio, whole), *change)
    assert result.exit_code == 2
    assert re.search(named, result.stderr)
    assert "force=true" in result.stderr
    assert whole.read_bytes() == expected


def test_recordings_at_other_rates_are_resampled_as_set(store, model, tmp_path) -> None:
    audio = tmp_path / "noise"
    audio.mkdir()
    noise = np.random.default_rng(5).normal(0, 0.1, 10_000)
    soundfile.write(audio / "a.wav", noise, 24_000, subtype="FLOAT")
    found = []
    for resampler in ("soxr", "kaiser_best"):
        more = ["--resampler", resampler, "--device", "cpu"]
        output = tmp_path / f"{resampler}.txt"
        result = run_score(*score_command(model, audio, output, "--num_workers", "1", *more))
        assert result.exit_code == 0, result.output
        assert newest_run().data.tags["resampler"] == resampler
        run_score("--model", str(model), "--audio", str(audio / "a.wav"), *more)
        found.append([*read_scores(output).scores, newest_run().data.metrics["score/score"]])
    np.testing.assert_allclose(*np.transpose(found), atol=1e-5)
    assert abs(found[0][0] - found[1][0]) > 1e-4


@pytest.mark.parametrize(("name", "expected"), [("silence", "silent"), ("opposite", "cancelled, silent")])
def test_every_door_that_scores_says_what_makes_a_score_less_sure(
    store, model, tmp_path, name, expected
) -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 24_000)
    channels = {"silence": np.zeros(24_000), "opposite": np.stack([noise, -noise], axis=1)}
    audio = tmp_path / "audio"
    audio.mkdir()
    soundfile.write(audio / "a.wav", channels[name], 16_000)
    result = run_score("--model", str(model), "--audio", str(audio / "a.wav"), "--device", "cpu")
    assert expected in result.output
    assert "0.50 of 1.50" in result.output  # what the tiny countermeasure hears
    result = run_score(*score_command(model, audio, tmp_path / "scores.txt"))
    assert f"a.wav ({expected})" in " ".join(result.output.split())
    warned = mlflow.artifacts.load_text(f"runs:/{newest_run().info.run_id}/warnings.json")
    assert json.loads(warned) == {"a.wav": expected}


def test_scores_of_another_model_are_not_overwritten(whole, audio, tmp_path) -> None:
    other = make_checkpoint(tmp_path / "other.safetensors", seed=2)
    result = run_score(*score_command(other, audio, whole))
    assert result.exit_code == 2
    assert re.search(rf"{re.escape(str(whole))}: found .*checkpoint_sha256", result.stderr)


def test_a_file_of_unknown_origin_is_not_overwritten(store, model, audio, tmp_path) -> None:
    output = tmp_path / "mine.txt"
    output.write_text("r0000.wav 1\n")
    result = run_score(*score_command(model, audio, output))
    assert result.exit_code == 2
    assert re.search(rf"{re.escape(str(output))}: found .*without .*JSON", result.stderr)
    assert output.read_text() == "r0000.wav 1\n"


def test_shards_are_joined_to_the_bytes_of_one_process(whole, model, audio, tmp_path) -> None:
    output = tmp_path / "shards" / "scores.txt"
    for shard in ("3/3", "1/3"):
        result = run_score(*score_command(model, audio, output, "--shard", shard))
        assert result.exit_code == 0, result.output
        assert f"-e join -P output={output}" in result.output
        assert newest_run().data.tags["kind"] == "score-shard"
    result = CliRunner().invoke(join, ["--output", str(output)])
    assert result.exit_code == 2
    assert re.search(r"\b8 of 22 trials .*number 9\b", result.stderr)
    assert not output.exists()
    assert run_score(*score_command(model, audio, output, "--shard", "2/3")).exit_code == 0
    result = CliRunner().invoke(join, ["--output", str(output)])
    assert result.exit_code == 0, result.output
    assert output.read_bytes() == whole.read_bytes()
    assert {path.name for path in output.parent.iterdir()} == {"scores.txt", "scores.txt.json"}
    joined = newest_run()
    assert (joined.data.tags["kind"], joined.data.tags["track"]) == ("score", "noises")
    result = CliRunner().invoke(join, ["--output", str(output)])
    assert result.stdout == f"Already joined: {output}\n"
    assert newest_run().info.run_id != joined.info.run_id
    known = {
        "kind",
        "track",
        "protocol",
        "checkpoint_sha256",
        "scoring_key",
        "precision",
        "resampler",
        "model",
    }
    assert {name: newest_run().data.tags[name] for name in known} == {
        name: joined.data.tags[name] for name in known
    }


def test_a_join_that_was_killed_before_its_shards_were_removed_is_finished(
    whole, model, audio, tmp_path, monkeypatch
) -> None:
    output = tmp_path / "scores.txt"
    for shard in ("1/2", "2/2"):
        assert run_score(*score_command(model, audio, output, "--shard", shard)).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(score_file, "remove_partial_files", lambda output: None)
        assert CliRunner().invoke(join, ["--output", str(output)]).exit_code == 0
    assert list(tmp_path.glob("*.partial"))
    result = CliRunner().invoke(join, ["--output", str(output)])
    assert result.stdout == f"Already joined: {output}\n"
    assert not list(tmp_path.glob("*.partial"))
    assert output.read_bytes() == whole.read_bytes()


def test_shards_are_not_joined_over_a_file_of_something_else(store, model, audio, tmp_path) -> None:
    output = tmp_path / "scores.txt"
    for shard in ("1/2", "2/2"):
        assert run_score(*score_command(model, audio, output, "--shard", shard)).exit_code == 0
    output.write_text("r0000.wav 1\n")
    result = CliRunner().invoke(join, ["--output", str(output)])
    assert result.exit_code == 2
    assert re.search(rf"{re.escape(str(output))}: found .*without .*JSON", result.stderr)
    assert output.read_text() == "r0000.wav 1\n"


def test_a_shard_that_is_forced_leaves_the_others(whole, model, audio, tmp_path) -> None:
    output = tmp_path / "scores.txt"
    for more in (["1/2"], ["2/2"], ["2/2", "--force", "true"]):
        result = run_score(*score_command(model, audio, output, "--shard", *more))
        assert re.search(r"^1[02] scored, 0 failures", result.output, re.MULTILINE), result.output
    assert CliRunner().invoke(join, ["--output", str(output)]).exit_code == 0
    assert output.read_bytes() == whole.read_bytes()


def test_a_join_records_the_protocol_as_a_dataset_as_a_single_process_does(
    store, model, audio, tmp_path
) -> None:
    protocol = tmp_path / "list.txt"
    protocol.write_text("".join(f"r{index:04d}\n" for index in range(8)))
    found = []
    for shards in ((), ("1/2", "2/2")):
        output = tmp_path / f"{len(shards)}.txt"
        command = [*score_command(model, audio, output), "--protocol", str(protocol)]
        for more in [("--shard", shard) for shard in shards] or [()]:
            result = run_score(*command, *more)
            assert result.exit_code == 0, result.output
        if shards:
            assert CliRunner().invoke(join, ["--output", str(output)]).exit_code == 0
        run = newest_run()
        assert run.data.tags["kind"] == "score"
        found.append([(item.dataset, item.tags[0].value) for item in run.inputs.dataset_inputs])
    assert len(found[0]) == 1
    assert [(dict(dataset), context) for dataset, context in found[0]] == [
        (dict(dataset), context) for dataset, context in found[1]
    ]


def test_shards_of_different_settings_are_not_joined(store, model, audio, tmp_path) -> None:
    output = tmp_path / "scores.txt"
    for shard, precision in (("1/2", "fp32"), ("2/2", "bf16")):
        more = ["--shard", shard, "--precision", precision]
        assert run_score(*score_command(model, audio, output, *more)).exit_code == 0
    result = CliRunner().invoke(join, ["--output", str(output)])
    assert result.exit_code == 2
    # A CPU may pack the linear layers in one precision alone, and then that differs too.
    assert re.search(r"2-of-2\.partial: found .*precision bf16\b.*expected .*precision fp32", result.stderr)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "0/3"], "shard: found 0/3"),
        (["--shard", "a"], "shard: found 'a', expected .*NUMBER/COUNT"),
        (["--shard", "1/2", "--eval_batch_size", "0"], r"eval_batch_size: found 0\b.*shard"),
        (["--precision", "tf32"], "precision: found tf32 on cpu"),
        (["--output", "."], r"output: found .*, expected .*file"),
        (["--window_hop", "8001"], r"window_hop: found 8001, expected .*\b8000\b"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(store, model, audio, tmp_path, more, message: str) -> None:
    result = run_score(*score_command(model, audio, tmp_path / "scores.txt"), *more)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)
    assert result.stderr.count("\n") == 1


def test_a_join_of_nothing_is_refused(store, tmp_path) -> None:
    result = CliRunner().invoke(join, ["--output", str(tmp_path / "scores.txt")])
    assert result.exit_code == 2
    assert "found no shards of it" in result.stderr


def test_one_recording_is_scored_with_its_layers_and_its_curve(store, model, audio, whole, tmp_path) -> None:
    arguments = ["--model", str(model), "--device", "cpu"]
    result = run_score("--audio", str(audio / "r0003.wav"), *arguments)
    assert result.exit_code == 0, result.output
    # Alone, in a batch of one, and with the model's own layers: the same score but for rounding.
    value = newest_run().data.metrics["score/score"]
    assert value == pytest.approx(read_scores(whole).scores[3], abs=1e-5)
    assert f"{value:.9g}" in result.output
    assert "weight of layer 1" in result.output
    waveform, _ = soundfile.read(audio / "r0003.wav", dtype="float32")
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(waveform, 4)[:30_000], 16_000, subtype="FLOAT")
    more = ["--window_hop", "8000", "--window_combination", "min", "--resampler", "kaiser_best"]
    result = run_score("--audio", str(path), *arguments, *more)
    assert result.exit_code == 0, result.output
    assert "most suspicious window" in result.output
    run = newest_run()
    assert run.data.tags["resampler"] == "kaiser_best"
    client = connect()
    names = {item.path for item in client.list_artifacts(run.info.run_id, "recording")}
    assert names == {"recording/windows.tsv", "recording/curve.png", "recording/score.json"}
    lines = Path(client.download_artifacts(run.info.run_id, "recording/windows.tsv")).read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["start_s", "0.0000", "0.5000", "1.0000", "1.3750"]
    scores = [float(line.split("\t")[2]) for line in lines[1:]]
    assert run.data.metrics["score/score"] == pytest.approx(min(scores))
