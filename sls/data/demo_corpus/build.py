"""Makes the demo corpus in a directory, whole or not at all."""

import logging
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from sls.config import PROJECT_ROOT
from sls.data.corpora.published_counts import CORPUS_NOTE
from sls.data.demo_corpus.plan import DemoTrial, count_trials, plan_corpus
from sls.data.demo_corpus.tables import AUDIO_DIRECTORIES, write_tables
from sls.files import naming
from sls.processes import hold_lock
from sls.yaml_file import read_yaml

logger = logging.getLogger(__name__)

VERSION = 4
"""To be raised whenever the same seed makes other files: a demo corpus of another version is made anew."""
ORIGIN = "DEMO.yaml"
"""Tells us of what version, seed and scale a corpus is; CORPUS_NOTE tells the reader of a data root what it is."""
TRIALS_WORTH_A_PROCESS = 100

README = """\
This is the synthetic demo corpus of the sls project, made by code (see sls/data/demo_corpus), in the layout and
the formats of ASVspoof 2019 LA, ASVspoof 2021 LA and DF, and In-the-Wild. Nobody speaks here, and no real synthesizer
attacks: figures on this corpus say nothing about real deepfakes.
"""


def make_demo_corpus(
    directory: Path | str, seed: int = 1234, scale: float = 1.0, num_workers: int | None = None
) -> Path:
    """Makes the demo corpus at `directory`, unless it is there already, and returns its path.

    It is made beside `directory` and then renamed, so that a process that is stopped leaves no half corpus behind; of
    two processes, one waits for the other. A demo corpus of another version, seed or scale is replaced.

    Args:
        directory: The data root to be; its parents are created.
        seed: The same seed and scale make the same files, whatever the number of processes, on one kind of processor
            with the same packages; others may round the last bit of a few samples otherwise.
        scale: Multiplies the number of trials; 0.1 is enough for a test.
        num_workers: Processes; as many as there are processors (8 at most) by default.

    Raises:
        ValueError: The directory holds something other than a demo corpus, or the scale is not positive.
        ChildProcessError: A process failed, such as on a full disk, or this build lacks a codec.
    """
    directory = Path(directory)
    wanted = {"version": VERSION, "seed": seed, "scale": float(scale)}
    if read_origin(directory) == wanted:
        return directory
    trials = plan_corpus(seed, scale)
    with hold_lock(directory, waits=True):
        found = read_origin(directory)
        if found == wanted:
            return directory
        if found is None and directory.exists() and (directory.is_file() or any(directory.iterdir())):
            raise ValueError(f"demo corpus: {directory}: found other files, expected a new or empty one")
        logger.info("demo corpus: making %d recordings, once", len(trials))
        temporary = tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent)
        with temporary as scratch, naming(directory):
            made = Path(scratch) / "made"
            _fill(made, trials, wanted, num_workers or min(8, os.cpu_count() or 1))
            if directory.exists():
                directory.rename(Path(scratch) / "replaced")
            made.rename(directory)
    logger.info("demo corpus: %d recordings in %s", len(trials), directory)
    return directory


def read_origin(data_root: Path) -> dict[str, Any] | None:
    """Returns the version, seed and scale of a finished demo corpus; None where there is none."""
    path = data_root / ORIGIN
    found = read_yaml(path) if path.is_file() else None
    return found if isinstance(found, dict) and set(found) == {"version", "seed", "scale"} else None


def _fill(root: Path, trials: list[DemoTrial], origin: dict[str, Any], num_workers: int) -> None:
    for part in AUDIO_DIRECTORIES.values():
        (root / part).mkdir(parents=True)
    write_tables(root, trials, origin["seed"])
    _run_workers(root, origin, min(num_workers, -(-len(trials) // TRIALS_WORTH_A_PROCESS)))
    (root / "README.txt").write_text(README, encoding="utf-8")
    for name, content in (CORPUS_NOTE, {"corpus": "demo", "counts": count_trials(trials)}), (ORIGIN, origin):
        (root / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _run_workers(root: Path, origin: dict[str, Any], num_workers: int) -> None:
    """Makes the recordings in fresh interpreters, which neither fork our threads nor import what we imported."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [root.resolve(), origin["seed"], origin["scale"], num_workers]
    command = [sys.executable, "-m", "sls.data.demo_corpus.recording", *map(str, words)]
    start = partial(subprocess.Popen, cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    workers = [start([*command, str(share)]) for share in range(num_workers)]
    try:
        told = [(worker.communicate()[1], worker.returncode) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    failed = [text for text, status in told if status]
    if failed:
        reason = (failed[0].strip() or "killed").splitlines()[-1]
        raise ChildProcessError(f"demo corpus: {len(failed)} of {num_workers} processes failed: {reason}")
