"""Score files on the disk, and the journals beside them."""

from pathlib import Path

import numpy as np
import pytest

from sls.config import ComputeConfig, ScoringConfig
from sls.engine.scoring.partial_scores import JournalHeader, ScoreJournal
from sls.engine.scoring.settings import binding_key, settings_of
from sls.engine.scoring.shards import Shard, find_shards, journal_path
from sls.tracking.scoring.score_file import is_finished, write_score_file

HEADER = JournalHeader({"num_trials": 2, "eval_batch_size": 1}, {})


def write_shards(output: Path) -> list[Path]:
    paths = [journal_path(output, Shard(number, 2)) for number in (1, 2)]
    for batch, path in enumerate(paths):
        with ScoreJournal(path, HEADER, "") as journal:
            journal.append(batch, [f"t{batch}"], np.array([batch]))
    return paths


def test_a_score_file_leaves_the_shards_of_one_whose_name_goes_on(tmp_path) -> None:
    shards = write_shards(tmp_path / "df.txt")
    write_score_file(tmp_path / "df", HEADER, ["t0", "t1"], np.zeros(2))
    assert all(path.is_file() for path in shards)
    with pytest.raises(FileNotFoundError, match="df: found no shards of it"):
        find_shards(tmp_path / "df")


def test_shards_are_found_and_removed_whatever_the_name_of_their_file(tmp_path) -> None:
    output = tmp_path / "[df]*.txt"
    shards = write_shards(output)
    assert [content.source for content in find_shards(output)] == shards
    write_score_file(output, HEADER, ["t0", "t1"], np.zeros(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["[df]*.txt", "[df]*.txt.json"]


def test_a_score_file_is_of_its_resampler_and_an_earlier_one_of_soxr(tmp_path) -> None:
    of = {name: settings_of(ComputeConfig(), ScoringConfig(name)) for name in ("soxr", "kaiser_best")}
    earlier = {name: value for name, value in of["soxr"].items() if name != "resampler"}
    assert binding_key(earlier) == binding_key(of["soxr"]) != binding_key(of["kaiser_best"])
    for made, alike, other in (
        (earlier, "soxr", "kaiser_best"),
        (of["soxr"], "soxr", "kaiser_best"),
        (of["kaiser_best"], "kaiser_best", "soxr"),
    ):
        write_score_file(tmp_path / "df.txt", JournalHeader(made, {}), ["t0"], np.zeros(1))
        assert is_finished(tmp_path / "df.txt", of[alike])
        with pytest.raises(ValueError, match=f"scores with resampler {alike}, expected resampler {other}"):
            is_finished(tmp_path / "df.txt", of[other])
