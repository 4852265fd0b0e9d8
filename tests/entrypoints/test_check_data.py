"""The check_data door: what is there, what is missing, and what can be run."""

import json
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from entrypoints.check_data import check_data
from sls.tracking.store import connect

TRACKS = "train,dev,ASVspoof2019-LA,LA,DF,In-the-Wild"


def newest_run() -> mlflow.entities.Run:
    experiment = connect().get_experiment_by_name("xlsr-sls")
    return connect().search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def test_whole_corpus_is_usable_and_the_report_is_kept(store, small_corpus) -> None:
    result = CliRunner().invoke(
        check_data, ["--data_root", str(small_corpus), "--track", TRACKS, "--depth", "decode"]
    )
    assert result.exit_code == 0, result.output + result.stderr
    assert "can train on: train" in result.output
    assert f"can score: {TRACKS.replace(',', ', ')}" in result.output
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{newest_run().info.run_id}/check_data.json"))
    assert [item["track"] for item in report] == TRACKS.split(",")
    assert all(item["audio"]["missing"] == 0 and not item["audio"]["unreadable"] for item in report)
    assert set(report[-1]["audio"]["sample_rates_hz"]) > {"16000"}


def test_decoding_counts_recordings_whose_scores_will_be_less_sure(store, small_corpus, tmp_path) -> None:
    root = Path(shutil.copytree(small_corpus, tmp_path / "corpus"))
    soundfile.write(min(root.rglob("*_T_*.flac")), np.zeros(32_000), 16_000)
    for depth, found in (("headers", {}), ("decode", {"silent": 1})):
        result = CliRunner().invoke(
            check_data, ["--data_root", str(root), "--track", "train", "--depth", depth]
        )
        assert result.exit_code == 0, result.output + result.stderr
        (train,) = json.loads(mlflow.artifacts.load_text(f"runs:/{newest_run().info.run_id}/check_data.json"))
        assert {name: train["audio"]["warnings"].get(name) for name in found} == found
        assert ("1 silent" in result.output) == bool(found)


@pytest.mark.slow
def test_missing_and_broken_recordings_are_counted_and_exit_with_2(store, small_corpus, tmp_path) -> None:
    root = Path(shutil.copytree(small_corpus, tmp_path / "corpus"))
    gone, broken = sorted(root.rglob("*_T_*.flac"))[:2]
    gone.unlink()
    broken.write_bytes(b"no audio")
    result = CliRunner().invoke(check_data, ["--data_root", str(root), "--track", "train,dev"])
    assert result.exit_code == 2
    assert re.search(r"not usable.*: train \(.*\b2\b", result.stderr)
    assert gone.stem in result.output
    (train, dev) = json.loads(mlflow.artifacts.load_text(f"runs:/{newest_run().info.run_id}/check_data.json"))
    assert train["audio"]["missing"] == 1
    assert [Path(item["path"]).name for item in train["audio"]["unreadable"]] == [broken.name]
    assert not dev["problems"]


def test_a_lone_list_that_is_wrong_is_told_and_exits_with_2(store, small_corpus, tmp_path) -> None:
    root = Path(shutil.copytree(small_corpus, tmp_path / "corpus"))
    (path,) = root.rglob("meta.csv")
    path.write_text(path.read_text().rstrip("\n").rpartition(",")[0] + "\n")
    result = CliRunner().invoke(check_data, ["--data_root", str(root), "--depth", "names"])
    assert result.exit_code == 2
    assert re.search(r"not usable.*: In-the-Wild\b", result.stderr)
    assert f"In-the-Wild: {path}:" in result.output


def test_corpus_that_is_not_there_is_said_with_where_to_get_it(store, small_corpus) -> None:
    result = CliRunner().invoke(check_data, ["--data_root", str(small_corpus), "--track", "ASVspoof5"])
    assert result.exit_code == 2
    assert "to download for ASVspoof5" in result.output


def test_all_means_every_track_of_which_something_is_there(store, small_corpus) -> None:
    outputs = [
        CliRunner().invoke(check_data, ["--data_root", str(small_corpus), "--depth", "names", *more])
        for more in ([], ["--track", "all"])
    ]
    assert [result.exit_code for result in outputs] == [0, 0], outputs[1].stderr
    assert outputs[0].output == outputs[1].output
    assert "ASVspoof5: nothing" in outputs[1].output
    # Nothing is cut off where a log is 80 columns wide.
    headings = ("trials", "present", "missing", "extra", "unreadable", "keyed", "ASVspoof2019-LA")
    assert all(f" {heading} " in outputs[1].output for heading in headings)
