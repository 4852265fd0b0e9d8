"""A study that is stopped in the middle goes on where it was: by `kill -9`, while it trains, and while it scores."""

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Run

from entrypoints import main as main_door
from entrypoints.compare import compare
from entrypoints.main import main
from entrypoints.progress import TrainingProgress
from entrypoints.train import train
from sls.config import PROJECT_ROOT
from sls.engine.training.results import EpochResult
from sls.tracking.evaluation.pipeline import Pipeline
from sls.tracking.run import TrackedRun
from sls.yaml_file import read_yaml
from tests.entrypoints.scoring_work import start_door
from tests.signalled_door import signalled

pytestmark = pytest.mark.slow
TRACKS = ("LA",)


def options(corpus: Path, **more: object) -> list[str]:
    values = {
        "config": "configs/v1.yaml",
        "data_root": corpus,
        "xlsr_model": "random:tiny",
        "device": "cpu",
        "audio_max_len": 8000,
        "batch_size": 4,
        "num_epochs": 2,
        "num_workers": 0,
        "seeds": "1,2",
        **more,
    }
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def runs_of(kind: str) -> list[Run]:
    return MlflowClient().search_runs(["1"], f"tags.kind = '{kind}'", order_by=["attributes.start_time ASC"])


def finished(door, arguments: list[str]) -> Result:
    done = CliRunner().invoke(door, arguments)
    assert done.exit_code == 0, done.output + done.stderr
    return done


def test_a_killed_experiment_goes_on_with_the_seed_that_it_was_at(
    store: Path, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = read_yaml(PROJECT_ROOT / "configs" / "tracks.yaml")
    tracks["tracks"] = {name: tracks["tracks"][name] for name in ("train", *TRACKS)}
    (tmp_path / "one.tracks.yaml").write_text(yaml.safe_dump(tracks))
    arguments = options(small_corpus, tracks=tmp_path / "one.tracks.yaml")
    # After the first of the two epochs of the second seed.
    killed_there = signalled("entrypoints.progress:TrainingProgress.on_epoch", 3, signal.SIGKILL)
    process = start_door(*killed_there, "entrypoints.main", *arguments)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    (killed,) = runs_of("main")
    first, second = runs_of("train")
    assert (first.info.status, second.info.status) == ("FINISHED", "RUNNING")

    # A second stop, before it scores by the second seed.
    monkeypatch.setattr(main_door, "WORKPLACE", tmp_path / "work")
    num_scored = 0

    def stop_at_the_second_seed(self: Pipeline, *arguments: object) -> str:
        nonlocal num_scored
        num_scored += 1
        if num_scored == 2:
            raise KeyboardInterrupt
        return score(self, *arguments)

    score = Pipeline.score
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "score", stop_at_the_second_seed)
        assert CliRunner().invoke(main, [*arguments, "--resume", killed.info.run_id]).exit_code == 130
    for name, value in (("seeds", "1,2,3"), ("seeds", ""), ("recipe", "v3")):
        other = CliRunner().invoke(main, [*arguments, f"--{name}", value, "--resume", killed.info.run_id])
        assert other.exit_code == 2
        assert "beside resume, expected v1 by 1,2," in other.stderr
    done = finished(main, [*arguments, "--resume", killed.info.run_id])
    assert " ± " in done.output
    assert "2 seeds give a mean; " in done.output
    assert "Compare the recipes" in done.output

    (ended,) = runs_of("main")
    assert (ended.info.run_id, ended.info.status) == (killed.info.run_id, "FINISHED")
    trained = runs_of("train")
    assert [run.info.run_id for run in trained] == [first.info.run_id, second.info.run_id]
    assert [run.data.params["cfg/seed"] for run in trained] == ["1", "2"]
    assert {run.data.tags["study"] for run in trained} == {killed.info.run_id}
    for run in trained:
        epochs = [point.step for point in MlflowClient().get_metric_history(run.info.run_id, "train/loss")]
        assert epochs == sorted(set(epochs))
    scored = Counter(run.data.tags["track"] for run in runs_of("score"))
    assert scored == dict.fromkeys(TRACKS, 2)
    evaluated = Counter(run.data.tags["track"] for run in runs_of("evaluate"))
    assert evaluated == dict.fromkeys(TRACKS, 2)
    for track in TRACKS:
        eers = [run.data.metrics[f"{track}/eer_percent"] for run in trained]
        assert ended.data.metrics[f"{track}/eer_percent_mean.v1"] == pytest.approx(sum(eers) / 2)
        assert ended.data.metrics[f"{track}/eer_percent_best.v1"] == min(eers)
        assert ended.data.metrics[f"{track}/eer_percent_worst.v1"] == max(eers)
    best = min(trained, key=lambda run: min_loss(run))
    (version,) = MlflowClient().search_model_versions("name='xlsr-sls'")
    assert version.tags["run_id"] == best.info.run_id
    assert not list((tmp_path / "work").iterdir())

    refused = CliRunner().invoke(main, [*arguments, "--resume", killed.info.run_id])
    assert refused.exit_code == 2
    assert f"run {killed.info.run_id} has finished" in refused.stderr


def min_loss(run: Run) -> float:
    return min(point.value for point in MlflowClient().get_metric_history(run.info.run_id, "train/loss"))


def test_a_stopped_study_of_the_train_door_goes_on_by_its_id_alone(
    store: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_epoch = TrainingProgress.on_epoch

    def stop_in_the_second_seed(self: TrainingProgress, epoch: EpochResult) -> None:
        on_epoch(self, epoch)
        if self.title == "v1 seed 1235":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_epoch", stop_in_the_second_seed)
        assert CliRunner().invoke(train, options(small_corpus, seeds="2")).exit_code == 130
    (study,) = runs_of("study")
    (first, second) = runs_of("train")
    assert study.info.run_name == "train v1 by 2 seeds"
    assert [run.info.status for run in (study, first, second)] == ["KILLED", "FINISHED", "KILLED"]
    resume = ["--resume", study.info.run_id]
    for name, value in (("lr", "0.5"), ("seeds", "2")):
        other = CliRunner().invoke(train, [*resume, f"--{name}", value])
        assert other.exit_code == 2
        assert f"{name}: found {value} beside resume" in other.stderr
    done = finished(train, resume)
    assert "v1 by seed" in done.output
    assert done.output.count("2 seeds give a mean; ") == 2
    (ended,) = runs_of("study")
    assert ended.info.status == "FINISHED"
    assert [(run.info.run_id, run.info.status) for run in runs_of("train")] == [
        (run.info.run_id, "FINISHED") for run in (first, second)
    ]
    losses = sorted(min_loss(run) for run in (first, second))
    names = [f"train/loss_{name}.v1" for name in ("best", "worst")]
    assert [ended.data.metrics[name] for name in names] == losses
    # Without scores there is nothing to compare, and the line says of which training.
    missing = CliRunner().invoke(
        compare, ["--track", "LA", "--studies", study.info.run_id, "--data_root", str(small_corpus)]
    )
    assert missing.exit_code == 2
    assert "no finished scoring run of track LA" in missing.stderr


def test_a_study_that_is_killed_as_it_begins_does_not_go_on_as_one_training(
    store: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_tags, log_config = TrackedRun.set_tags, TrackedRun.log_config
    steps = [("set_tags", set_tags), ("log_config", log_config)]

    def stop_after(step: Callable[..., None]) -> Callable[..., None]:
        def stopping(self: TrackedRun, values: Any) -> None:
            step(self, values)
            if not isinstance(values, dict) or "seeds" in values:
                raise KeyboardInterrupt

        return stopping

    for name, step in steps:
        with monkeypatch.context() as patch:
            patch.setattr(TrackedRun, name, stop_after(step))
            assert CliRunner().invoke(train, options(small_corpus, num_epochs=1)).exit_code == 130
        begun = runs_of("study")[-1].info.run_id
        resumed = CliRunner().invoke(train, ["--resume", begun])
        if name == "set_tags":
            assert resumed.exit_code == 2
            assert "found no configuration" in resumed.stderr
        else:
            assert resumed.exit_code == 0, resumed.output + resumed.stderr
    assert [run.data.tags["study"] for run in runs_of("train")] == [begun, begun]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_experiment_is_no_work_for_several_processes(
    store: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    refused = CliRunner().invoke(main, options(small_corpus))
    assert refused.exit_code == 2
    assert "main: found a launch of 2 processes, expected one" in refused.stderr
    assert not runs_of("train")


def test_what_does_not_go_with_a_study_is_refused(store: Path, small_corpus: Path) -> None:
    for arguments, message in (
        (options(small_corpus, seeds="1,2", seed=3), "seed: found 3 beside seeds 1,2"),
        (options(small_corpus, seeds="x"), "seeds: found 'x'"),
    ):
        refused = CliRunner().invoke(train, arguments)
        assert refused.exit_code == 2
        assert message in refused.stderr
