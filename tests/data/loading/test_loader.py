"""Unreadable recordings stop the loader, or are handed over within a budget, never scored; signals stop no worker."""

import multiprocessing
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sls.config import AudioConfig
from sls.data.audio.recording import AudioError, read_audio
from sls.data.audio.windows import fit_length
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import AudioFailure, check_failures, load_batches
from sls.data.loading.training_batches import Batch, EpochBatches
from sls.data.tables.protocols import Trial


@pytest.fixture
def trials(tmp_path) -> list[Trial]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(23):
        path = tmp_path / f"T_{index:02d}.flac"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 2000 + 300 * index), 16_000)
        made.append(Trial(path.stem, path, index % 2))
    return made


def epoch_of(trials: list[Trial], batch_size: int = 5) -> EpochBatches:
    return EpochBatches(TrialDataset(trials, AudioConfig(audio_max_len=4000)), batch_size=batch_size)


def load(trials: list[Trial], num_workers: int = 0, max_failures: int = 0) -> list[Batch]:
    batches = epoch_of(trials)
    return list(load_batches(batches, range(len(batches)), num_workers, max_failures=max_failures))


def break_some(trials: list[Trial], folder: Path) -> list[Trial]:
    """Makes trial 1 a text and trial 3 a missing file."""
    (folder / "text.flac").write_text("not audio")
    broken = list(trials)
    broken[1] = Trial("T_01", folder / "text.flac", 1)
    broken[3] = Trial("T_03", folder / "missing.flac", 1)
    return broken


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_recording_stops_with_one_line_that_names_it(trials, tmp_path, num_workers):
    with pytest.raises(AudioError) as caught:
        load(break_some(trials, tmp_path), num_workers=num_workers)
    message = str(caught.value)
    first = re.escape(f"{tmp_path}/text.flac: ")
    assert re.match(rf"2 recordings .*expected .*\b0: T_01, T_03\b.*{first}", message)
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize("num_workers", [0, 2])
def test_failures_within_the_budget_are_handed_over_and_never_scored(trials, tmp_path, num_workers):
    batches = load(break_some(trials, tmp_path), num_workers=num_workers, max_failures=2)
    assert [len(batch) for batch in batches] == [3, 5, 5, 5, 3]
    assert batches[0].indices.tolist() == [0, 2, 4]
    assert batches[0].labels.tolist() == [0, 0, 0]
    first, second = batches[0].failures
    assert (first.index, first.name, first.path) == (1, "T_01", tmp_path / "text.flac")
    assert "not readable" in first.message
    assert second.message.startswith(f"{tmp_path / 'missing.flac'}: ")
    for row, index in enumerate((0, 2, 4)):
        expected = fit_length(read_audio(trials[index].path), 4000)
        np.testing.assert_array_equal(batches[0].waveforms[row], expected)


def test_more_failures_than_the_budget_stop(trials, tmp_path):
    with pytest.raises(AudioError, match=r"2 recordings .*expected .*\b1: T_01, T_03\b.*text"):
        load(break_some(trials, tmp_path), max_failures=1)


def test_failures_of_several_batches_are_all_named_and_one_by_its_message_alone(trials, tmp_path):
    broken = break_some(trials, tmp_path)
    broken[-1] = Trial("T_22", tmp_path / "gone.flac", 0)
    with pytest.raises(AudioError, match=r"^3 recordings .* \b2: T_01, T_03, T_22\b.*text"):
        load(broken, max_failures=2)
    with pytest.raises(AudioError, match=f"^{tmp_path}/gone.flac: "):
        load([*trials[:-1], broken[-1]])


def test_a_batch_of_failures_alone_is_empty(trials, tmp_path):
    batch = load(break_some(trials, tmp_path)[1:2], max_failures=5)[0]
    assert len(batch) == 0
    assert batch.waveforms.shape == (0, 4000)
    assert len(batch.failures) == 1


def test_the_first_failure_is_told_in_its_own_words():
    failures = [AudioFailure(place, name, Path(name), f"{name}: gone") for place, name in enumerate("abc")]
    check_failures(failures, 3)
    with pytest.raises(AudioError, match=r"^3 recordings .* \b2: a, b, c; .*a: gone$"):
        check_failures(failures, 2)
    with pytest.raises(AudioError, match=r"^b: gone$"):
        check_failures(failures[1:2], 0)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo")
def test_workers_leave_signals_to_the_main_process(trials):
    before = set(multiprocessing.active_children())
    previous = signal.signal(signal.SIGTERM, lambda *_: None)  # the handler that a run sets; forks inherit it
    try:
        batches = load_batches(epoch_of(trials, 1), range(23), 1)
        next(batches)
    finally:
        signal.signal(signal.SIGTERM, previous)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGINT)
    # As `timeout` or Slurm do, which signal every process of a job.
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    worker.join(timeout=0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(timeout=60)
    assert worker.exitcode == 0


def test_workers_end_with_their_loader(trials):
    before = set(multiprocessing.active_children())
    batches = load_batches(epoch_of(trials, 2), range(11), 2)
    next(batches)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    batches.close()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
