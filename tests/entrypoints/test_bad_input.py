"""Bad input: one line, exit code 2, and a FAILED run that says why."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow.entities import Run

from entrypoints.check_data import check_data
from entrypoints.compare import compare
from entrypoints.epochs import epochs
from entrypoints.evaluate import evaluate
from entrypoints.join import join
from entrypoints.main import main
from entrypoints.register import register
from entrypoints.score import score
from entrypoints.train import train
from sls.config import PROJECT_ROOT
from sls.tracking.store import connect

TINY = ["--xlsr_model", "random:tiny", "--num_workers", "0", "--device", "cpu"]


def newest_run() -> Run:
    client = connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)[0]


def call(command, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def assert_fails_with(result: Result, *parts: str) -> None:
    lines = result.stderr.strip().splitlines()
    message = lines[-1]
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for part in parts:
        assert part in message, message
    run = newest_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] in message


def test_wrong_data_root_is_named_with_where_it_was_looked_for(store) -> None:
    assert_fails_with(
        call(train, "--data_root", "no/such/place"), "data_root", "no/such/place", str(Path.cwd())
    )


def test_unknown_field_is_named_with_the_nearest(store, small_corpus) -> None:
    assert_fails_with(
        call(train, "--data_root", str(small_corpus), "--batchsize", "4"),
        "batchsize",
        "did you mean batch_size",
    )


def test_retired_option_is_answered_with_what_to_use(store, small_corpus) -> None:
    assert_fails_with(call(train, "--is_eval", "--eval"), "is_eval", "mlflow run . -e score")


def test_option_that_is_misspelt_or_of_another_door_is_answered_by_this_door(store) -> None:
    assert_fails_with(call(evaluate, "--trak", "LA"), "evaluate", "trak", "mean track")
    assert_fails_with(
        call(compare, "--fit_calibration", "true"),
        "compare",
        "fit_calibration",
        "allow_partial",
    )


@pytest.mark.parametrize("door", [evaluate, compare])
def test_intervals_take_no_number_of_resamples(store, door) -> None:
    result = call(door, "--track", "LA", "--num_resamples", "50")
    assert_fails_with(result, door.name, "num_resamples")


def test_option_of_another_door_is_refused(store, small_corpus) -> None:
    assert_fails_with(call(evaluate, "--track", "LA", "--lr", "1"), "evaluate", " lr")


def test_stray_word_is_refused(store) -> None:
    assert_fails_with(call(train, "patience=1"), "found patience=1", "--name value")


def test_value_of_the_wrong_type_is_named(store) -> None:
    assert_fails_with(call(train, "--lr", "fast"), "lr: found 'fast'")


def test_unknown_resampler_is_named_with_those_that_there_are(store) -> None:
    result = call(score, "--track", "LA", "--resampler", "sinc")
    assert_fails_with(result, "resampler: found 'sinc'", "soxr, kaiser_best")


def test_missing_configuration_file_is_named(store) -> None:
    assert_fails_with(call(train, "--config", "configs/v3.yaml"), "configs/v3.yaml")


def test_missing_pretrained_model_is_named(store, small_corpus) -> None:
    assert_fails_with(
        call(train, "--data_root", str(small_corpus), "--num_workers", "0"), "xlsr_model: xlsr2_300m.pt"
    )


def test_unknown_validation_is_not_called_a_track(store, small_corpus) -> None:
    where = ["--data_root", str(small_corpus), *TINY]
    assert_fails_with(call(train, *where, "--validation", "devv"), "validation: found 'devv'", "mean dev?")


def test_misspelt_subset_is_held_against_the_key(store, small_corpus, tmp_path) -> None:
    (tmp_path / "scores.txt").write_text("a 1\n")
    where = ["--data_root", str(small_corpus), "--track", "LA", "--scores", str(tmp_path / "scores.txt")]
    result = call(evaluate, *where, "--subset", "progres")
    assert_fails_with(result, "CM/trial_metadata.txt", "'progres'", "mean progress?")


def test_misspelt_stage_is_answered_with_the_nearest(store) -> None:
    assert_fails_with(call(register, "--version", "1", "--stage", "produktion"), "mean production?")


def test_unknown_shape_is_named(store, small_corpus) -> None:
    result = call(train, "--data_root", str(small_corpus), "--xlsr_model", "random:small")
    assert_fails_with(result, "random:small", "tiny")


def test_gpu_that_is_not_there_is_not_replaced_by_the_cpu(store, small_corpus, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_fails_with(
        call(train, "--data_root", str(small_corpus), "--device", "cuda"), "device: found cuda", "no GPU"
    )


def test_missing_protocol_is_named_with_where_it_was_looked_for(store, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert_fails_with(
        call(train, "--data_root", str(tmp_path / "empty"), *TINY),
        "train",
        "ASVspoof2019.LA.cm.train.trn.txt",
    )


def test_missing_recording_is_named(store, small_corpus, tmp_path) -> None:
    root = copy_corpus(small_corpus, tmp_path)
    gone = next(root.rglob("*_T_*.flac"))
    gone.unlink()
    assert_fails_with(call(train, "--data_root", str(root), *TINY), gone.stem)


@pytest.mark.slow
def test_recording_that_is_no_audio_is_named(store, small_corpus, tmp_path) -> None:
    root = copy_corpus(small_corpus, tmp_path)
    broken = next(root.rglob("*_T_*.flac"))
    broken.unlink()
    broken.write_bytes(b"this is no audio")
    assert_fails_with(call(train, "--data_root", str(root), "--num_epochs", "1", *TINY), broken.name)


@pytest.mark.parametrize("command", [check_data, compare, epochs, evaluate, score])
def test_unknown_track_is_named_with_those_there_are_before_a_demo_corpus_is_made(
    store, monkeypatch, command
) -> None:
    monkeypatch.delenv("SLS_DATA_ROOT", raising=False)
    monkeypatch.setattr(
        "sls.data.corpora.corpus.make_demo_corpus", lambda directory: pytest.fail("it was made")
    )
    assert_fails_with(call(command, "--track", "PA"), "found 'PA'", "In-the-Wild")


@pytest.mark.slow
@pytest.mark.parametrize("option", ["track", "protocol", "audio_dir", "output", "shard", "force"])
def test_what_one_recording_does_not_take_is_refused(store, option: str) -> None:
    value = {"shard": "1/2", "force": "true"}.get(option, "LA")
    result = call(score, "--audio", "call.wav", f"--{option}", value)
    assert_fails_with(result, f"audio: found {option} ")


def test_missing_track_is_named_with_those_there_are(store, small_corpus) -> None:
    assert_fails_with(call(score, "--data_root", str(small_corpus)), "track: ", "In-the-Wild")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", "models:/xlsr-sls@champion"),
        ("models:/xlsr-sls/7", "models:/xlsr-sls/7"),
        ("models:/xlsr-sls", "models:/NAME@ALIAS"),
        ("models:/m-0123456789abcdef0123456789abcdef", "m-0123456789abcdef0123456789abcdef"),
        ("runs:/0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("runs:/xyz", "runs:/RUN_ID"),
        ("nowhere.safetensors", "model: nowhere.safetensors"),
    ],
)
def test_missing_checkpoint_is_named(store, small_corpus, model: str, message: str) -> None:
    assert_fails_with(
        call(score, "--data_root", str(small_corpus), "--track", "LA", "--model", model), message
    )


def test_file_that_is_no_checkpoint_is_named(store, small_corpus, tmp_path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"")
    assert_fails_with(
        call(score, "--data_root", str(small_corpus), "--track", "LA", "--model", str(path)),
        "broken.safetensors",
    )


def test_track_that_was_never_scored_is_said_so(store, small_corpus) -> None:
    assert_fails_with(
        call(evaluate, "--data_root", str(small_corpus), "--track", "LA"),
        "track LA",
    )


def test_missing_score_file_is_named(store, small_corpus) -> None:
    result = call(evaluate, "--data_root", str(small_corpus), "--track", "LA", "--scores", "nowhere.txt")
    assert_fails_with(result, "scores: nowhere.txt")


def test_missing_key_is_named(store, small_corpus, tmp_path) -> None:
    scores = tmp_path / "scores.txt"
    scores.write_text("LA_E_1 0.5\n")
    arguments = ["--data_root", str(small_corpus), "--track", "LA", "--scores", str(scores)]
    assert_fails_with(call(evaluate, *arguments, "--key", str(tmp_path / "nokeys")), "nokeys")
    assert_fails_with(call(evaluate, *arguments), "LA_E_1")


def test_empty_score_file_is_named(store, small_corpus, tmp_path) -> None:
    scores = tmp_path / "scores.txt"
    scores.write_text("")
    result = call(evaluate, "--data_root", str(small_corpus), "--track", "LA", "--scores", str(scores))
    assert_fails_with(result, "scores.txt: ")
    scores.unlink()
    scores.mkdir()
    result = call(evaluate, "--data_root", str(small_corpus), "--track", "LA", "--scores", str(scores))
    assert_fails_with(result, "scores.txt: found a directory")


def test_unknown_scoring_run_is_named(store, small_corpus) -> None:
    unknown = "0123456789abcdef0123456789abcdef"
    result = call(evaluate, "--data_root", str(small_corpus), "--track", "LA", "--scores", unknown)
    assert_fails_with(result, unknown)


def test_recipes_of_one_name_are_refused_before_training(store, small_corpus) -> None:
    configs = ",".join([str(PROJECT_ROOT / "configs" / "v1.yaml")] * 2)
    assert_fails_with(
        call(main, "--config", configs, "--data_root", str(small_corpus)), "recipe: found v1, v1"
    )


def test_register_without_a_run_is_refused(store) -> None:
    assert_fails_with(call(register), "run_id: ")


def copy_corpus(source: Path, directory: Path) -> Path:
    import shutil

    return Path(shutil.copytree(source, directory / "corpus"))


@pytest.mark.parametrize("command", [score, join])
def test_output_that_is_no_file_is_refused_before_anything_else_is_looked_at(
    store, tmp_path, command
) -> None:
    link, file = tmp_path / "latest.txt", tmp_path / "scores.txt"
    file.write_text("t0 0\n")
    link.symlink_to(file)
    more = ["--model", "runs:/0000", "--track", "LA", "--data_root", "nowhere"] if command is score else []
    assert_fails_with(
        call(command, "--output", str(link), *more), "output: found the link", str(link), str(file)
    )
    assert link.is_symlink()
    assert file.read_text() == "t0 0\n"


@pytest.mark.parametrize("command", [main, train, score, evaluate, compare, epochs, check_data])
def test_track_that_the_tracking_server_would_refuse_is_refused_at_every_door(
    store, small_corpus, tmp_path, command
) -> None:
    tracks = tmp_path / "mine.yaml"
    entry = "key: {files: meta.csv, formats: in-the-wild-meta}, audio: {folders: .}"
    tracks.write_text(f"tracks:\n  our $ calls: {{{entry}}}\n")
    arguments = ["--data_root", str(small_corpus), "--tracks", str(tracks)]
    if command not in (main, train):
        arguments += ["--track", "our $ calls"]
    assert_fails_with(call(command, *arguments), "tracks: found the track 'our $ calls'", "MLflow")
