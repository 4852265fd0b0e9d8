"""Score files on the disk, and the partial files beside them."""

import json
import os
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from sls.config import ComputeConfig, ScoringConfig
from sls.engine.scoring.partial_scores import PartialWriter, Shard, find_shards, partial_path
from sls.engine.scoring.settings import settings_of
from sls.tracking.scoring.score_file import (
    check_output,
    is_finished,
    known_batch_size,
    track_join,
    write_score_file,
)

MADE_WITH = {"num_trials": 2, "eval_batch_size": 1}
LINES = ["t0 0\n", "t1 1\n"]


def write_shards(output: Path) -> list[Path]:
    paths = [partial_path(output, Shard(number, 2)) for number in (1, 2)]
    for batch, path in enumerate(paths):
        with closing(PartialWriter(path, MADE_WITH, None)) as partial:
            partial.append([f"t{batch}"], [batch])
    return paths


def test_a_score_file_leaves_the_shards_of_one_whose_name_goes_on(tmp_path) -> None:
    shards = write_shards(tmp_path / "df.txt")
    write_score_file(tmp_path / "df", MADE_WITH, LINES)
    assert all(path.is_file() for path in shards)
    assert (tmp_path / "df").read_text() == "t0 0\nt1 1\n"


def test_shards_are_removed_whatever_the_name_of_their_file(tmp_path) -> None:
    output = tmp_path / "[df]*.txt"
    shards = write_shards(output)
    assert [partial_path(output, shard) for shard in find_shards(output)] == shards
    write_score_file(output, MADE_WITH, LINES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["[df]*.txt", "[df]*.txt.json"]


def test_a_join_that_finds_the_score_file_removes_no_shard_of_something_else(tmp_path) -> None:
    output = tmp_path / "df.txt"
    write_score_file(output, MADE_WITH, LINES)
    shards = write_shards(output)
    with closing(PartialWriter(shards[1], {**MADE_WITH, "precision": "bf16"}, None)):
        pass
    with pytest.raises(ValueError, match=r"df\.txt: found .*precision None, .* bf16"):
        track_join(Mock(), output)
    assert all(path.is_file() for path in shards)


def test_a_score_file_is_of_its_resampler(tmp_path) -> None:
    of = {name: settings_of(ComputeConfig(), ScoringConfig(name)) for name in ("soxr", "kaiser_best")}
    for alike, other in (("soxr", "kaiser_best"), ("kaiser_best", "soxr")):
        write_score_file(tmp_path / "df.txt", of[alike], LINES)
        assert is_finished(tmp_path / "df.txt", of[alike])
        with pytest.raises(ValueError, match=f"resampler {alike}, expected .*resampler {other}"):
            is_finished(tmp_path / "df.txt", of[other])


def test_an_automatic_batch_size_is_that_of_what_is_there(tmp_path) -> None:
    output = tmp_path / "df.txt"
    assert known_batch_size(output) == 0
    with closing(PartialWriter(partial_path(output), {**MADE_WITH, "eval_batch_size": 64}, None)):
        assert known_batch_size(output) == 64
    write_score_file(output, {"eval_batch_size": 32}, LINES)
    assert known_batch_size(output) == 32


@pytest.mark.parametrize("beside", ["", ".json", ".partial"])
def test_what_lies_where_an_output_or_its_company_goes_is_not_replaced(tmp_path, beside: str) -> None:
    output = tmp_path / "df.txt"
    check_output(output)
    taken = tmp_path / f"df.txt{beside}"
    os.mkfifo(taken)
    for check in (check_output, lambda path: track_join(Mock(), path)):
        with pytest.raises(ValueError, match=rf"^output: found the pipe, .* {taken},"):
            check(output)
    assert taken.is_fifo()


@pytest.mark.parametrize(
    "changes",
    [
        {"eval_batch_size": 0},
        {"eval_batch_size": "x"},
        {"num_trials": -1},
        {"num_trials": [2]},
        {"num_trials": True},
        {"num_trials": 10**15},
        {"num_trials": 3, "eval_batch_size": 10**400},
        {"model_tags": []},
        {"counts": 3},
        {"track": {"a": {}}},
        {},
    ],
)
def test_what_was_not_written_here_is_refused_with_its_file(tmp_path, changes) -> None:
    made_with = {**MADE_WITH, **changes}
    output = tmp_path / "df.txt"
    for number in (1, 2):
        head = json.dumps(made_with) + "\n"
        partial_path(output, Shard(number, 2)).write_text(f"{head}t{number} 0\n")
    for is_there in (False, True):
        if is_there:
            write_score_file(output, made_with, LINES)
        with pytest.raises(ValueError, match=r"df\.txt"):
            track_join(Mock(), output)
    if changes:
        assert known_batch_size(output) in (0, made_with["eval_batch_size"])
