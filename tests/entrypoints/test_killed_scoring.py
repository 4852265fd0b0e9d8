"""Scoring that is killed, doubled and launched over ranks, each in processes of their own."""

import json
import os
import re
import signal
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner

from entrypoints.score import score
from sls.data.tables.score_files import read_scores
from sls.engine.scoring.partial_scores import Shard, partial_path
from sls.tracking.store import connect
from tests.entrypoints.scoring_work import make_checkpoint, make_recordings, score_command, start_door
from tests.signalled_door import signalled

pytestmark = pytest.mark.slow

NUM_KILLS = 6
NUM_RECORDINGS = 400
APPEND = "sls.engine.scoring.partial_scores:PartialWriter.append"
"""Is called for each batch."""
LAUNCHER = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("work")
    model = make_checkpoint(directory / "tiny.safetensors")
    return model, make_recordings(directory / "noises", NUM_RECORDINGS)


@pytest.fixture
def whole(work, store, tmp_path) -> Path:
    """The scores of one process that nothing disturbs, as a run in the store of the test."""
    path = tmp_path / "whole.txt"
    result = CliRunner().invoke(score, score_command(*work, path))
    assert result.exit_code == 0, result.output
    return path


def finish(process) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def test_kills_on_two_shards_leave_the_exact_file(work, whole, tmp_path) -> None:
    model, audio = work
    rng = np.random.default_rng(20)
    output = tmp_path / "cut.txt"
    kills, torn = {1: 0, 2: 0}, 0
    while sum(kills.values()) < NUM_KILLS:
        number = 1 if kills[1] <= kills[2] else 2
        partial = partial_path(output, Shard(number, 2))
        command = score_command(model, audio, output, "--shard", f"{number}/2")
        # A shard has 50 batches. The signal comes before a write or after it.
        count = int(rng.choice([-1, 1]) * rng.integers(1, 10))
        place = signalled(APPEND, count, signal.SIGKILL)
        process = start_door(*place, "entrypoints.score", *command)
        errors = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, errors
        kills[number] += 1
        content = partial.read_bytes() if partial.is_file() else b""
        # As a power cut may leave it, beside what a kill does.
        if content and rng.random() < 0.5:
            partial.write_bytes(content[: -int(rng.integers(1, 60))])
            torn += 1
    assert torn
    assert not output.exists()
    for number in (1, 2):
        printed = finish(
            start_door("entrypoints.score", *score_command(model, audio, output, "--shard", f"{number}/2"))
        )
        assert re.search(r"\([1-9]\d* more were there\)", printed), printed
    finish(start_door("entrypoints.join", "--output", str(output)))
    assert output.read_bytes() == whole.read_bytes()


def test_of_two_processes_with_one_output_the_second_is_refused_by_the_name_of_the_first(
    work, store, tmp_path
) -> None:
    model, audio = work
    output = tmp_path / "scores.txt"
    stopped = signalled(APPEND, 1, signal.SIGSTOP)
    first = start_door(*stopped, "entrypoints.score", *score_command(model, audio, output))
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    try:
        second = start_door("entrypoints.score", *score_command(model, audio, output))
        _, errors = second.communicate(timeout=300)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 2
    assert f"scores.txt: found process {first.pid} on " in errors
    finish(first)
    assert len(read_scores(output)) == NUM_RECORDINGS


def test_two_ranks_write_the_file_of_one_process_in_one_run(work, whole, tmp_path) -> None:
    model, audio = work
    output = tmp_path / "ranks.txt"
    for told in (f"{NUM_RECORDINGS} scored, 0 failures", "Already scored"):
        command = score_command(model, audio, output)
        assert told in finish(start_door("entrypoints.score", *command, launcher=LAUNCHER))
        assert output.read_bytes() == whole.read_bytes()
    runs = connect().search_runs(["1"], "tags.kind = 'score' and attributes.status = 'FINISHED'")
    assert len(runs) == 3
    assert {run.data.metrics.get("score/num_trials") for run in runs} == {NUM_RECORDINGS, None}
    assert not list(tmp_path.glob("*.partial*"))
    environment = json.loads(mlflow.artifacts.load_text(f"runs:/{runs[0].info.run_id}/environment.json"))
    assert environment["hardware"]["gpus"]


def test_a_rank_that_fails_fails_the_run_and_names_the_recording(work, store, tmp_path) -> None:
    model, audio = work
    last = f"r{NUM_RECORDINGS - 1:04d}.wav"
    content = (audio / last).read_bytes()
    (audio / last).write_bytes(b"no audio")
    output = tmp_path / "ranks.txt"
    process = start_door("entrypoints.score", *score_command(model, audio, output), launcher=LAUNCHER)
    _, errors = process.communicate(timeout=300)
    (audio / last).write_bytes(content)
    assert process.returncode != 0
    assert not output.exists()
    (run,) = connect().search_runs(["1"], "tags.kind = 'score'")
    assert run.info.status == "FAILED"
    assert re.match(f"rank 1: .*{last}: not readable", run.data.tags["error"])
    assert f"score: {run.data.tags['error']}" in errors


def test_one_recording_is_scored_by_one_of_two_ranks(work, store) -> None:
    model, audio = work
    arguments = ["--model", str(model), "--device", "cpu", "--audio", str(audio / "r0000.wav")]
    printed = finish(start_door("entrypoints.score", *arguments, launcher=LAUNCHER))
    assert printed.count("weight of layer 1") == 1
