"""The rounds of `benchmarks.kills`: a server, a gateway and a clock of their own, and the works that are killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.kill_checks import (
    check_ends,
    compare,
    describe_registry,
    describe_training,
    find_runs,
    has_begun,
)
from benchmarks.unsteady_gateway import STEADY, TROUBLES, Gateway, ShiftingClock, every
from sls.config import PROJECT_ROOT
from tests.servers import Server

MOST_KILLS, MOST_TRIES = 3, 6
STEADY_SHARE = 0.5  # of the time between two changes of the gateway
JUMPS_S = (-86_400, -3_600, -90, 0, 90, 3_600, 86_400)
HANGS_S = 400


@dataclass
class Door:
    """A door and its arguments, and how long it takes when nobody disturbs it."""

    name: str
    arguments: list[str]
    duration_s: float = 0.0


@dataclass
class Expected:
    """What undisturbed works leave, and where they lie."""

    directory: Path
    train: Door
    score: Door
    register: Door
    known_runs: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    registry: dict[str, Any] = field(default_factory=dict)
    scores: bytes = b""
    files: set[str] = field(default_factory=set)
    """What doors leave in the current directory: the score file and what belongs to it."""


@dataclass
class Round:
    """One round: its own server, gateway, clock, journal and directory."""

    directory: Path
    server: Server
    gateway: Gateway
    clock: ShiftingClock
    rng: random.Random
    expected: Expected
    troubles: Sequence[str] = TROUBLES
    """The modes of the gateway, beside the steady one."""
    log: list[str] = field(default_factory=list)
    never_begun: list[str] = field(default_factory=list)
    """Trainings killed before they recorded their configuration, which can only be started anew."""

    @property
    def client(self) -> MlflowClient:
        """Of the server itself, past the gateway."""
        return MlflowClient(self.server.uri)

    def runs(self) -> list[Run]:
        """Returns the runs of this round, the oldest first, without those that never began."""
        return find_runs(self.client, known=[*self.expected.known_runs, *self.never_begun])

    def start(self, door: Door, *more: str) -> subprocess.Popen[bytes]:
        """Starts a door as a user does, in a directory and a group of its own."""
        shown = [door.name, *(more or door.arguments)]
        number = len(list(self.directory.glob("process*.txt")))
        self.log.append(f"{number}: {' '.join(shown)[:60]}")
        return self._start([f"entrypoints.{door.name}", *shown[1:]], number)

    def _start(self, command: list[str], number: int) -> subprocess.Popen[bytes]:
        variables = {
            "PYTHONPATH": str(PROJECT_ROOT),
            "MLFLOW_TRACKING_URI": self.gateway.uri,
            "SLS_JOURNAL_DIR": str(self.directory / "journal"),
            "OMP_NUM_THREADS": "1",
            **self.clock.variables,
        }
        with (self.directory / f"process{number:02d}.txt").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.directory / "cwd",
                env={**os.environ, **variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def finish(self, door: Door, *more: str) -> int:
        """Starts a door, waits for its end, and returns its exit code; one that hangs is killed."""
        code = end_in_time(self.start(door, *more), HANGS_S)
        self.log[-1] += f" -> {code}"
        return code

    def kill(self, door: Door, *more: str) -> None:
        """Starts a door in bad weather, and kills it at a random moment, if it has not ended before."""
        after_s = self.rng.uniform(0.2, 1.1) * door.duration_s
        with self.bad_weather():
            code = end_in_time(self.start(door, *more), after_s)
            self.log[-1] += f" -> {code} after {after_s:.1f} s"

    @contextmanager
    def bad_weather(self) -> Iterator[None]:
        """Has the gateway change its mode and the clock jump, by numbers drawn beforehand, until it is left."""
        weather = random.Random(self.rng.random())
        ended = threading.Event()

        def change() -> None:
            is_steady = weather.random() < STEADY_SHARE
            self.gateway.mode = STEADY if is_steady else weather.choice(self.troubles)
            if weather.random() < 0.2:
                self.clock.jump(weather.choice(JUMPS_S))

        change()
        thread = every(lambda: weather.uniform(0.1, 1.5), change, ended)
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.gateway.mode = STEADY


def end_in_time(process: subprocess.Popen[bytes], limit_s: float) -> int:
    """Waits for the end of a process, kills it after some seconds, and returns its exit code."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@contextmanager
def open_round(
    directory: Path, expected: Expected, rng: random.Random, troubles: Sequence[str] = TROUBLES
) -> Iterator[Round]:
    """Starts a server on a copy of the store, and a gateway before it."""
    (directory / "cwd").mkdir(parents=True)
    shutil.copyfile(expected.directory / "mlflow.db", directory / "mlflow.db")
    shutil.copytree(expected.directory / "artifacts", directory / "artifacts")
    server = Server(directory, directory / "mlflow.db")
    server.start()
    gateway = Gateway(server.port)
    mlflow.set_tracking_uri(server.uri)
    try:
        yield Round(directory, server, gateway, ShiftingClock(directory), rng, expected, troubles)
    finally:
        gateway.shutdown()
        gateway.server_close()
        server.kill()


def train_round(work: Round) -> Iterator[str]:
    """Kills a training, goes on with it until it is done, and yields what is not as it should be."""
    door = work.expected.train
    for _ in range(work.rng.randint(1, MOST_KILLS)):
        run_id = _find_training(work)
        work.kill(door, *(["--resume", run_id] if run_id else []))
    syncs_first = work.rng.random() < 0.5
    for _ in range(MOST_TRIES):
        if syncs_first:
            work.finish(Door("sync", []))
        run_id = _find_training(work)
        code = work.finish(door, *(["--resume", run_id] if run_id else []))
        if code == 2:
            work.never_begun += [run.info.run_id for run in work.runs() if not has_begun(work.client, run)]
        runs = work.runs()
        is_done = bool(runs) and all(run.info.status == "FINISHED" for run in runs)
        if code in (0, 2) and is_done:
            break
    work.finish(Door("sync", []))
    runs = work.runs()
    yield from check_ends(runs, "train")
    if len(runs) != 1:
        yield f"train: found {len(runs)} runs, expected one"
    for run in runs:
        yield from compare(describe_training(work.client, run, work.directory), work.expected.training)
    left = [path.name for path in (work.directory / "journal").glob("[0-9]*-*")]
    if left:
        yield f"train: journals are left: {left}"


def _find_training(work: Round) -> str:
    """Returns the run as a user finds it: on the server, or in what the killed process has left on disk."""
    runs = work.runs()
    if runs:
        return str(runs[-1].info.run_id)
    journals = sorted((work.directory / "journal").glob("[0-9]*-*"))
    return journals[-1].name.rpartition("-")[2] if journals else ""


def score_round(work: Round) -> Iterator[str]:
    """Kills a scoring, starts it again until it is done, and yields what is not as it should be."""
    yield from _repeat_until_done(work, work.expected.score)
    output = work.directory / "cwd" / "scores.txt"
    if not output.is_file():
        yield "score: there is no score file"
    elif output.read_bytes() != work.expected.scores:
        yield "score: the score file is another one than without a kill"


def register_round(work: Round) -> Iterator[str]:
    """Kills a registration, starts it again until it is done, and yields what is not as it should be."""
    yield from _repeat_until_done(work, work.expected.register)
    yield from compare(describe_registry(work.client), work.expected.registry)


def _repeat_until_done(work: Round, door: Door) -> Iterator[str]:
    for _ in range(work.rng.randint(1, MOST_KILLS)):
        work.kill(door)
    if not any(work.finish(door) == 0 for _ in range(MOST_TRIES)):
        yield f"{door.name}: not done after {MOST_TRIES} tries"
    yield from check_ends(work.runs(), door.name)


def check_processes(work: Round) -> Iterator[str]:
    """Yields tracebacks in what was printed, and files that were left where the door was started."""
    for path in sorted(work.directory.glob("process*.txt")):
        text = path.read_text(errors="replace")
        if "Traceback (most recent call last)" in text:
            yield f"{path.name}: a traceback: {text.strip().splitlines()[-1][:200]}"
    for path in (work.directory / "cwd").iterdir():
        if path.name not in work.expected.files:
            yield f"{path.name} is left in the current directory"


ROUNDS = {"train": train_round, "score": score_round, "register": register_round}
