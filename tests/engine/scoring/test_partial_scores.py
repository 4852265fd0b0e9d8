"""Partial files: continued where they were cut, never of something else, and joined in the order of the list."""

import resource
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sls.engine.scoring import partial_scores
from sls.engine.scoring.partial_scores import (
    WHOLE,
    PartialWriter,
    Shard,
    find_shards,
    join_shards,
    partial_path,
    read_partial,
)

MADE_WITH = {"track": "LA", "model": "m", "checkpoint_sha256": "a", "resampler": "soxr"}
MADE_WITH |= {"num_trials": 5, "eval_batch_size": 2}
BATCHES = [(["t0", "t1"], [-0.1, -2.5]), (["t2", "t3"], [-13.842713, np.nan]), (["t4"], [-1e-7])]


def write_partial(path: Path, batches=BATCHES, made_with: dict[str, Any] = MADE_WITH) -> bytes:
    """Continues a partial file by some batches."""
    with closing(PartialWriter(path, made_with, read_partial(path))) as partial:
        for names, scores in batches:
            partial.append(names, np.float32(scores).tolist())
    return path.read_bytes()


def write_shards(output: Path, count: int = 2) -> list[Path]:
    for number in range(1, count + 1):
        shard = Shard(number, count)
        batches = [(names, np.nan_to_num(scores)) for names, scores in BATCHES]
        write_partial(partial_path(output, shard), [batches[index] for index in shard.batches(3)])
    return [partial_path(output, Shard(number, count)) for number in range(1, count + 1)]


@pytest.mark.parametrize("num_batches", [0, 1, 5, 16, 17])
@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shards_hold_each_batch_and_each_trial_once_and_in_order(num_batches: int, count: int) -> None:
    shards = [Shard(number, count) for number in range(1, count + 1)]
    parts = [shard.batches(num_batches) for shard in shards]
    assert [batch for part in parts for batch in part] == list(range(num_batches))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    num_trials = max(3 * num_batches - 1, 0)
    trials = [trial for shard in shards for trial in shard.trials(num_trials, 3)]
    assert trials == list(range(num_trials))


@pytest.mark.parametrize(("number", "count"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_is_none_is_refused(number: int, count: int) -> None:
    with pytest.raises(ValueError, match="shard: found"):
        Shard(number, count)


def test_the_lines_are_those_of_the_score_file_below_what_made_them(tmp_path) -> None:
    content = write_partial(tmp_path / "partial", made_with={"track": "LA", "model": "a"})
    assert content.decode().splitlines() == [
        '{"track": "LA", "model": "a"}',
        "t0 -0.100000001",
        "t1 -2.5",
        "t2 -13.8427134",
        "t3 nan",
        "t4 -1.00000001e-07",
    ]


def test_a_trial_that_is_scored_again_keeps_its_place(tmp_path) -> None:
    write_partial(tmp_path / "partial")
    write_partial(tmp_path / "partial", [(["t2", "t3"], [-13.5, 0.0])])
    found = read_partial(tmp_path / "partial")
    assert found is not None
    assert found.lines() == ["t0 -0.100000001\n", "t1 -2.5\n", "t2 -13.5\n", "t3 0\n", "t4 -1.00000001e-07\n"]
    assert found.covers(["t2", "t3"])
    assert not found.covers(["t4", "t5"])


def test_a_name_with_spaces_comes_back_as_it_was(tmp_path) -> None:
    names = ["clip 1.wav", "1 2", "a  b -0.5", "\u00a0x", "nan"]
    write_partial(tmp_path / "partial", [(names, [0.5] * len(names))])
    found = read_partial(tmp_path / "partial")
    assert found is not None
    assert list(found.scores) == names


def test_a_recording_that_could_not_be_read_is_not_covered(tmp_path) -> None:
    write_partial(tmp_path / "partial")
    found = read_partial(tmp_path / "partial")
    assert found is not None
    assert [found.covers([name]) for name in ("t2", "t3")] == [True, False]
    assert found.lines()[3] == ""


def test_a_power_cut_costs_the_work_of_one_interval_at_most(tmp_path, monkeypatch) -> None:
    clock, synced = [0.0], []
    monkeypatch.setattr(partial_scores.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(partial_scores.os, "fsync", lambda _: synced.append(clock[0]))
    with closing(PartialWriter(tmp_path / "partial", MADE_WITH, None)) as partial:
        for batch in range(8):
            clock[0] = 2.0 * batch
            partial.append([f"t{batch}"], [0.0])
        clock[0] = 15.0
    assert synced == [0, 6, 12, 15]


def test_a_partial_file_cut_at_any_byte_is_continued_to_the_same_scores(tmp_path) -> None:
    path = tmp_path / "partial"
    whole = write_partial(path)
    expected = read_partial(path)
    assert expected is not None
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = read_partial(path)
        known = list(found.scores) if found else []
        assert known == list(expected.scores)[: max(whole[:length].count(b"\n") - 1, 0)]
        write_partial(path, [batch for batch in BATCHES if not found or not found.covers(batch[0])])
        again = read_partial(path)
        assert again is not None
        assert list(again.scores.items()) == list(expected.scores.items()), length


@pytest.mark.parametrize("place", [b"t3", b"nan\n"])
def test_what_follows_a_damaged_line_is_not_believed(tmp_path, place: bytes) -> None:
    path = tmp_path / "partial"
    whole = write_partial(path)
    # As a power cut may leave it: a block of zeros.
    at = whole.index(place)
    path.write_bytes(whole[:at] + bytes(2) + whole[at + 2 :])
    found = read_partial(path)
    assert found is not None
    assert list(found.scores) == ["t0", "t1", "t2"]
    write_partial(path, BATCHES[1:])
    assert b"\0" not in path.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        "my thesis\n",
        '6c63f185 {"binding": {"model": "a"}, "about": {}}\n',
        '{"num_trials": 5, \0\0\0\0\n',
        '{"checkpoint_sha256": "a"}\n',
        "5\n",
    ],
)
def test_a_file_that_holds_no_partial_scores_is_left_alone(tmp_path, content: str) -> None:
    path = tmp_path / "partial"
    path.write_text(content)
    with pytest.raises(ValueError, match="partial: found no "):
        read_partial(path)
    assert path.read_text() == content


def test_a_partial_file_that_cannot_grow_is_named(tmp_path) -> None:
    # As a full disk does: the system says what is wrong, and not where.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/partial'"):
            PartialWriter(tmp_path / "partial", MADE_WITH, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_are_joined_in_the_order_of_the_list(tmp_path, count: int) -> None:
    write_shards(tmp_path / "df.txt", count)
    made_with, lines = join_shards(
        tmp_path / "df.txt", [Shard(number, count) for number in range(1, count + 1)]
    )
    assert made_with == MADE_WITH
    assert [line.split()[0] for line in lines] == ["t0", "t1", "t2", "t3", "t4"]


def test_shards_that_do_not_hold_all_trials_are_not_joined(tmp_path) -> None:
    first, second = write_shards(tmp_path / "df.txt")
    write_partial(second, [BATCHES[1]])
    with pytest.raises(ValueError, match=r"df\.txt: 1 of 5 trials .*number 4\b"):
        join_shards(tmp_path / "df.txt", [Shard(1, 2), Shard(2, 2)])
    first.unlink()
    with pytest.raises(ValueError, match=r"number 1; found df.txt.2-of-2.partial"):
        join_shards(tmp_path / "df.txt", [Shard(1, 2), Shard(2, 2)])


def test_a_shard_under_the_name_of_another_is_not_joined(tmp_path) -> None:
    shards = write_shards(tmp_path / "df.txt", 3)
    shards[0].replace(shards[1])
    with pytest.raises(ValueError, match="df.txt: "):
        join_shards(tmp_path / "df.txt", find_shards(tmp_path / "df.txt"))


def test_shards_are_found_whatever_the_name_of_their_file_and_none_of_a_longer_name(tmp_path) -> None:
    write_shards(tmp_path / "[df]*.txt", 3)
    assert find_shards(tmp_path / "[df]*.txt") == [Shard(number, 3) for number in (1, 2, 3)]
    assert find_shards(tmp_path / "[df]*") == []
    with pytest.raises(FileNotFoundError, match="found no shards of it"):
        join_shards(tmp_path / "[df]*", [WHOLE])


@pytest.mark.parametrize("line", [b"t\xff 0.5\n", b"t9 1.2.3\n", b"t9 5e\n"])
def test_a_line_that_is_not_as_it_was_written_ends_what_is_taken(tmp_path, line: bytes) -> None:
    write_partial(tmp_path / "partial")
    whole = (tmp_path / "partial").read_bytes()
    (tmp_path / "partial").write_bytes(whole + line + b"t8 0.5\n")
    found = read_partial(tmp_path / "partial")
    assert found is not None
    assert found.num_bytes == len(whole)
    assert list(found.scores) == ["t0", "t1", "t2", "t3", "t4"]
