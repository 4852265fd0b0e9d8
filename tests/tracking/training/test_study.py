"""Trainings of which the server heard nothing; studies that were killed: tests/entrypoints/test_killed_study."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sls.config import PROJECT_ROOT
from sls.config_file import build_config
from sls.data.corpora.corpus import open_corpus
from sls.tracking import sender
from sls.tracking.active_run import tracked_run
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.sender import Sender
from sls.tracking.tags import STUDY_TAG
from sls.tracking.training.study import Study, describe_shortage, log_summary, read_seed


def test_a_summary_is_of_a_sample_the_lowest_is_the_best_and_what_one_seed_lacks_is_left_out() -> None:
    recorded: dict[str, float] = {}
    values = [3.0, 1.0, 2.5]
    seeds = [{"LA/eer_percent": value} for value in values]
    log_summary(
        SimpleNamespace(log_metrics=recorded.update), "v1", [{**seeds[0], "val/loss": 1.0}, *seeds[1:]]
    )
    assert recorded == {
        "LA/eer_percent_mean.v1": pytest.approx(np.mean(values)),
        "LA/eer_percent_std.v1": pytest.approx(np.std(values, ddof=1)),
        "LA/eer_percent_best.v1": 1.0,
        "LA/eer_percent_worst.v1": 3.0,
    }


@pytest.mark.parametrize(("num_seeds", "is_told"), [(1, False), (2, True), (3, True), (4, False)])
def test_a_study_that_is_too_small_for_a_verdict_is_told(num_seeds: int, is_told: bool) -> None:
    assert bool(describe_shortage(num_seeds)) == is_told
    assert bool(describe_shortage(num_seeds)) == is_told


@pytest.mark.slow
def test_a_training_whose_journal_was_not_sent_is_found_and_not_repeated(
    store: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"xlsr_model": "random:tiny", "audio_max_len": 8_000, "num_epochs": 1, "num_workers": 0}
    config = build_config({**settings, "device": "cpu", "data_root": str(small_corpus)})
    corpus = open_corpus(config.data)

    def fail(self: Sender) -> None:
        raise OSError("no route")

    with tracked_run("train", journal=True) as asking:
        study = Study(asking.client, {STUDY_TAG: asking.run_id}, is_resumed=True)
        with monkeypatch.context() as patch:
            patch.setattr(Sender, "send_next", fail)
            patch.setattr(sender, "AWAY_PATIENCE_S", 0.0)
            run_id = study.train(config, corpus, "train v1")
            with pytest.raises(ConnectionError, match=f"has not all of the training {run_id}"):
                read_seed(study.client, run_id)
        trained = read_seed(study.client, study.train(config, corpus, "train v1"))
        # The run that asks still holds its own journal, for other processes to see.
        (own,) = find_journals(asking.run_id)
        command = f"from sls.processes import take_lock; take_lock(__import__('pathlib').Path({str(own / 'lock')!r}))"
        taken = subprocess.run(
            [sys.executable, "-c", command], cwd=PROJECT_ROOT, capture_output=True, text=True
        )
        assert "BlockingIOError" in taken.stderr
    (run,) = study.client.search_runs(["1"], f"tags.{STUDY_TAG} = '{asking.run_id}'")
    assert (trained.model.run_id, run.info.status) == (run.info.run_id, "FINISHED")
