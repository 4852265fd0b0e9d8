import resource
from pathlib import Path

import numpy as np
import pytest

from sls.engine.scoring import partial_scores
from sls.engine.scoring.partial_scores import JournalHeader, ScoreJournal, read_journal

HEADER = JournalHeader({"model": "a", "precision": "fp32", "resampler": "soxr"}, {"track": "LA"})
BATCHES = {0: (["t0", "t1"], [-0.1, -2.5]), 2: (["t4"], [-1e-7]), 1: (["t2", "t3"], [-13.842713, 0.0])}


def write_journal(path: Path, header: JournalHeader = HEADER) -> bytes:
    with ScoreJournal(path, header, "remedy") as journal:
        for number, (names, scores) in BATCHES.items():
            journal.append(number, names, np.float32(scores))
    return path.read_bytes()


def test_trials_come_back_in_the_order_of_batches_with_their_float32(tmp_path) -> None:
    write_journal(tmp_path / "journal")
    content = read_journal(tmp_path / "journal")
    assert content is not None
    names, scores = content.names_and_scores(3)
    assert names == ["t0", "t1", "t2", "t3", "t4"]
    np.testing.assert_array_equal(scores.astype(np.float32), np.float32([-0.1, -2.5, -13.842713, 0.0, -1e-7]))


def test_the_lines_are_those_that_earlier_runs_left_behind(tmp_path) -> None:
    with ScoreJournal(
        tmp_path / "journal", JournalHeader({"model": "a"}, {"track": "LA"}), "remedy"
    ) as journal:
        journal.append(0, ["t0", "t1"], np.float32([-0.5, 2]))
        journal.append(1, ["t2"], np.float32([0]))
    assert (tmp_path / "journal").read_text() == (
        '6c63f185 {"binding": {"model": "a"}, "about": {"track": "LA"}}\n'
        "e94884dd 0 t0 -0.5 t1 2\n"
        "cfca4894 1 t2 0\n"
    )


def test_a_power_cut_costs_the_work_of_one_interval_at_most(tmp_path, monkeypatch) -> None:
    clock, synced = [0.0], []
    monkeypatch.setattr(partial_scores.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(partial_scores.os, "fsync", lambda _: synced.append(clock[0]))
    with ScoreJournal(tmp_path / "journal", HEADER, "remedy") as journal:
        for batch in range(8):
            clock[0] = 2.0 * batch
            journal.append(batch, ["t"], np.float32([0]))
        clock[0] = 15.0
    assert synced == [0, 6, 12, 15]
    assert journal.done == set(range(8))


def test_a_journal_cut_at_any_byte_is_continued_to_the_same_bytes(tmp_path) -> None:
    path = tmp_path / "journal"
    whole = write_journal(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with ScoreJournal(path, HEADER, "remedy") as journal:
            known = set(journal.done)
            assert known == set(list(BATCHES)[: max(whole[:length].count(b"\n") - 1, 0)])
            for number, (names, scores) in BATCHES.items():
                if number not in known:
                    journal.append(number, names, np.float32(scores))
        assert path.read_bytes() == whole, length


@pytest.mark.parametrize("damage", [b"\0", b"7", b"\n"])
def test_what_follows_a_damaged_line_is_not_believed(tmp_path, damage: bytes) -> None:
    path = tmp_path / "journal"
    whole = bytearray(write_journal(path))
    second_record = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    whole[second_record + 12 : second_record + 13] = damage
    path.write_bytes(whole)
    content = read_journal(path)
    assert content is not None
    assert set(content.batches) == {0}


def test_scores_of_something_else_are_refused_by_what_differs(tmp_path) -> None:
    path = tmp_path / "journal"
    whole = write_journal(path)
    other = JournalHeader({**HEADER.binding, "model": "b"}, {})
    with pytest.raises(ValueError, match=r"journal: found scores with model a, expected model b; remedy$"):
        ScoreJournal(path, other, "remedy")
    assert path.read_bytes() == whole


def test_scores_from_before_there_was_a_choice_of_resampler_are_of_soxr(tmp_path) -> None:
    path = tmp_path / "journal"
    write_journal(path, JournalHeader({"model": "a", "precision": "fp32"}, {}))
    with ScoreJournal(path, HEADER, "remedy") as journal:
        assert journal.done == set(BATCHES)
    other = JournalHeader({**HEADER.binding, "resampler": "kaiser_best"}, {})
    with pytest.raises(ValueError, match="found scores with resampler soxr, expected resampler kaiser_best"):
        ScoreJournal(path, other, "remedy")


def test_a_file_that_is_no_journal_is_left_alone(tmp_path) -> None:
    path = tmp_path / "journal"
    path.write_text("my thesis\n")
    with pytest.raises(ValueError, match="found no journal of scores"):
        ScoreJournal(path, HEADER, "remedy")
    assert path.read_text() == "my thesis\n"


def test_a_journal_that_cannot_grow_is_named(tmp_path) -> None:
    # As a full disk does: the system says what is wrong, and not where.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/journal'"):
            ScoreJournal(tmp_path / "journal", HEADER, "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
