"""Makes the demo corpus in a directory, whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from sls.config import PROJECT_ROOT
from sls.data.corpora.published_counts import CORPUS_NOTE
from sls.data.demo_corpus.plan import DemoTrial, count_trials, plan_corpus
from sls.data.demo_corpus.tables import AUDIO_DIRECTORIES, audio_path, write_tables
from sls.yaml_file import read_yaml

logger = logging.getLogger(__name__)

DEMO_SEED = 1234
VERSION = 3
"""To be raised whenever the same seed makes other samples."""
"""Tells whoever reads the data root which corpus lies there, and how many trials it has."""
ORIGIN = "DEMO.yaml"
"""Tells us of what version, seed and scale it is."""
TRIALS_WORTH_A_PROCESS = 50

README = """\
This is the demo corpus of the sls project, made by code (see sls/data/demo_corpus).

A source-filter voice speaks random syllables; the spoofed recordings are such utterances passed through simple
vocoders. Nobody speaks here, and no real synthesizer attacks: figures on this corpus say nothing about real
deepfakes. It exists so that the whole experiment can be run where the real corpora are not. The layout and the
file formats are those of ASVspoof 2019 LA, ASVspoof 2021 LA and DF, and In-the-Wild.
"""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Origin:
    """What decides every sample of a demo corpus."""

    version: int
    seed: int
    scale: float


def make_demo_corpus(
    directory: Path | str,
    seed: int = DEMO_SEED,
    scale: float = 1.0,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Makes the demo corpus at `directory`, unless it is there already.

    It is made beside `directory` under a temporary name and then renamed: two processes that make it at once do
    not disturb each other, and one that is stopped leaves no half corpus behind. A demo corpus of another version,
    seed or scale is replaced.

    Args:
        directory: The data root to be; its parents are created.
        seed: The same seed and scale make the same files, whatever the number of processes, on one kind of processor
            with the same packages; others may round the last bit of a few samples otherwise.
        scale: Multiplies the number of trials; 0.1 is enough for a test.
        num_workers: Processes; as many as there are processors (8 at most) by default.
        progress: Called with the number of recordings made so far and in all.

    Returns:
        The directory.

    Raises:
        ValueError: The directory holds something other than a demo corpus, or the scale is not positive.
    """
    directory = Path(directory)
    wanted = Origin(VERSION, seed, float(scale))
    if read_origin(directory) == wanted:
        return directory
    _require_ours(directory)
    trials = plan_corpus(seed, scale)
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent))
    try:
        made.chmod(0o755)
        _fill(made, trials, wanted, num_workers or min(8, os.cpu_count() or 1), progress)
        _install(made, directory, wanted)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    logger.info("demo corpus: %d recordings in %s", len(trials), directory)
    return directory


def read_origin(data_root: Path) -> Origin | None:
    """Returns the version, seed and scale of a finished demo corpus; None where there is none."""
    path = data_root / ORIGIN
    if not path.is_file():
        return None
    found = read_yaml(path)
    if not isinstance(found, dict) or set(found) != set(Origin.__dataclass_fields__):
        return None
    return Origin(**found)


def write_shard(root: Path, trials: Sequence[DemoTrial], seed: int, on_written: Callable[[], None]) -> None:
    """Makes the given trials under a root whose directories exist."""
    # Where the corpus is there already, nobody waits a second for scipy.signal.
    from sls.data.demo_corpus.trial_audio import write_trial

    for trial in trials:
        write_trial(trial, seed, root / audio_path(trial))
        on_written()


def _fill(
    root: Path, trials: Sequence[DemoTrial], origin: Origin, num_workers: int, progress: Progress | None
) -> None:
    for part in AUDIO_DIRECTORIES.values():
        (root / part).mkdir(parents=True)
    write_tables(root, trials, origin.seed)
    count = _Count(len(trials), progress)
    num_workers = min(num_workers, -(-len(trials) // TRIALS_WORTH_A_PROCESS))
    if num_workers == 1:
        write_shard(root, trials, origin.seed, count.add)
    else:
        _run_workers(root, origin, num_workers, count)
    (root / "README.txt").write_text(README, encoding="utf-8")
    note = {"corpus": "demo", "counts": count_trials(trials)}
    (root / CORPUS_NOTE).write_text(yaml.safe_dump(note, sort_keys=False), encoding="utf-8")
    (root / ORIGIN).write_text(yaml.safe_dump(asdict(origin), sort_keys=False), encoding="utf-8")


class _Count:
    """Counts recordings from several threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)


def _run_workers(root: Path, origin: Origin, num_workers: int, count: _Count) -> None:
    """Makes the recordings in fresh interpreters, which neither fork our threads nor import what we imported."""
    path = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    arguments = [str(root.resolve()), str(origin.seed), str(origin.scale)]
    command = [sys.executable, "-m", "sls.data.demo_corpus.worker", *arguments]
    workers = [
        subprocess.Popen(
            [*command, str(shard), str(num_workers)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for shard in range(num_workers)
    ]
    try:
        listeners = [threading.Thread(target=_listen, args=(worker, count)) for worker in workers]
        for listener in listeners:
            listener.start()
        for listener in listeners:
            listener.join()
        failed = [worker.wait() for worker in workers if worker.wait() != 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if failed:
        raise RuntimeError(f"demo corpus: {len(failed)} of {num_workers} processes failed; see above")


def _listen(worker: subprocess.Popen[str], count: _Count) -> None:
    assert worker.stdout is not None  # it was opened with a pipe
    with worker.stdout as lines:
        for _ in lines:
            count.add()


def _require_ours(directory: Path) -> None:
    is_free = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    if not is_free and read_origin(directory) is None:
        raise ValueError(f"demo corpus: {directory}: found other files, expected a new or empty directory")


def _install(made: Path, directory: Path, wanted: Origin) -> None:
    """Renames the finished corpus to its place, unless another process put the same one there meanwhile."""
    if read_origin(directory) == wanted:
        return
    replaced = made.with_suffix(".replaced")
    try:
        if directory.exists() and any(directory.iterdir()):
            directory.rename(replaced)
        made.rename(directory)
    except OSError:
        if read_origin(directory) != wanted:
            raise
    finally:
        shutil.rmtree(replaced, ignore_errors=True)
