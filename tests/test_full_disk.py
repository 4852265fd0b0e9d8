"""Whatever writes a file names it where the system takes no more, in errors of one kind."""

import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException

from entrypoints.door import errors_exit
from sls.tracking.database import database_answer

LIMIT_BYTES = 4096

WRITERS = f"""
import json, resource, signal, sys
from pathlib import Path
import torch
from sls.data.demo_corpus import recording
from sls.engine.scoring.partial_scores import PartialWriter
from sls.engine.training.state import write_state
from sls.files import scratch_directory, write_whole
from sls.models.checkpoints import CheckpointInfo, build_countermeasure, save_checkpoint
from sls.tracking.scoring.score_file import write_score_file

root = Path(sys.argv[1])
model = build_countermeasure("random:tiny", 8_000, 3)
info = CheckpointInfo(model.encoder, 8_000)
long = [f"trial_{{number}} 0.5\\n" for number in range(1_000)]
made_with = {{"num_trials": 1, "eval_batch_size": 1}}

def write_text():
    with write_whole(root / "text" / "a.txt") as temporary:
        temporary.write_text("x" * 100_000)

def copy():
    import shutil
    with write_whole(root / "copied") as temporary:
        shutil.copyfile(sys.executable, temporary)

def append():
    PartialWriter(root / "partial", made_with, None).append(["x" * 100_000], [0.5])

def record():
    (root / "demo" / "train").mkdir(parents=True)
    recording.audio_path = lambda trial: "demo/train/a.flac"
    recording.main(str(root), "1234", "0.02", "1", "0")

def stage():
    with scratch_directory() as directory:
        (directory / "page.html").write_text("x" * 100_000)

calls = {{
    "text/a.txt": write_text,
    "copied": copy,
    "partial": append,
    "demo/train/a.flac": record,
    "": stage,
    "model.safetensors": lambda: save_checkpoint(root / "model.safetensors", model, info),
    "state": lambda: write_state(root / "state", {{"weights": torch.zeros(100_000)}}),
    "scores.txt": lambda: write_score_file(root / "scores.txt", made_with, long),
}}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES}))
for name, call in calls.items():
    try:
        call()
    except Exception as error:
        number, filename = getattr(error, "errno", None), getattr(error, "filename", None)
        print(json.dumps([name, number, filename or repr(error)]))
    else:
        print(json.dumps([name, None, "nothing was raised"]))
"""


@pytest.mark.slow
def test_each_writer_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files, which needs no rights, stands for the disk."""
    root, temporary = tmp_path / "root", tmp_path / "temporary"
    root.mkdir()
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", WRITERS, str(root)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 8
    for name, number, filename in lines:
        assert number == errno.EFBIG, (name, filename)
        expected = temporary if not name else root / name
        assert Path(filename).is_relative_to(expected), (name, filename)
    kept = {path.name for path in root.rglob("*") if path.is_file()}
    assert kept <= {"partial", "a.flac"}, kept
    assert not list(temporary.iterdir())


def fail_as_a_library_does() -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        raise RuntimeError("PytorchStreamWriter failed\nwriting file data/0") from None


def test_door_ends_in_one_line_where_a_library_does_not_say_why(capsys) -> None:
    with pytest.raises(SystemExit) as ended, errors_exit("train"):
        fail_as_a_library_does()
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: ")]
    assert "PytorchStreamWriter" in line


def test_door_leaves_a_fault_in_the_code_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), errors_exit("train"):
        raise ZeroDivisionError("a fault in the code")


def test_database_that_is_full_is_told_without_its_sql() -> None:
    answer = sqlite3.OperationalError("database or disk is full")
    error = MlflowException("INSERT INTO runs")
    error.__cause__ = sqlalchemy.exc.OperationalError("INSERT INTO runs (x) VALUES (?)", (1,), answer)
    said = database_answer(error, "sqlite:////data/mlflow.db")
    assert "/data/mlflow.db" in said
    assert said.endswith("database or disk is full")
    assert "INSERT" not in said
    assert not database_answer(MlflowException("no such run"), "sqlite:////data/mlflow.db")
