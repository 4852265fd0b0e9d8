"""Kills training, scoring and registering, behind an unsteady gateway and by a clock that jumps, until they are done.

    OMP_NUM_THREADS=1 python -m benchmarks.kills --rounds 50 --seed 3
    OMP_NUM_THREADS=1 python -m benchmarks.kills --only 17 --seed 3 --directory kills

Each round starts a real tracking server on a copy of the same store. A door is started, and killed with all of its
processes at a random moment, one to three times; meanwhile the gateway before the server fails in the ways of
gateways and the clock jumps forwards and backwards. Then the gateway is steady, and what a user would do is done:
`sync`, `resume`, the same command again. What the server and the disk then hold is compared with what a work that
nobody disturbed has left: nothing may be lost, nothing doubled, no run left at work, and every byte the same.

All that a round draws comes from (seed, number of the round), so that `--only` repeats it: the kind, the moments, the
modes and jumps, in the same order. What the door is doing at that moment is the machine's affair: where a failure
does not come again, give `--repeats`. A round that fails leaves its directory, with the output of every process.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import click
from mlflow import MlflowClient

from benchmarks.kill_checks import describe_registry, describe_training, find_runs
from benchmarks.kill_rounds import ROUNDS, Door, Expected, Round, check_processes, open_round
from sls.config import PROJECT_ROOT
from sls.data.demo_corpus import make_demo_corpus
from tests.entrypoints.scoring_work import make_checkpoint, make_recordings

NUM_RECORDINGS = 300


def prepare(directory: Path) -> Expected:
    """Makes the corpus, and does each work once without any disturbance."""
    expected = prepare_training(directory)
    with open_round(directory / "others", expected, random.Random(0)) as work:
        _do(work, expected.score)
        expected.scores = (work.directory / "cwd" / "scores.txt").read_bytes()
        expected.files = {path.name for path in (work.directory / "cwd").iterdir()}
        _do(work, expected.register)
        expected.registry = describe_registry(work.client)
    return expected


def prepare_training(directory: Path) -> Expected:
    """Makes the corpus, and trains once without any disturbance; what the other works leave is not known yet."""
    directory.mkdir(parents=True, exist_ok=True)
    corpus = directory / "corpus"
    make_demo_corpus(corpus, scale=0.05, num_workers=2)
    options = {
        "config": PROJECT_ROOT / "configs" / "v2.yaml",
        "data_root": corpus,
        "xlsr_model": "random:tiny",
        "device": "cpu",
        "audio_max_len": 8000,
        "batch_size": 2,
        "lr": 1e-3,
        "num_epochs": 3,
        "num_workers": 0,
        "keep": "all",
        "log_every_steps": 3,
        "save_every_steps": 2,
    }
    model = make_checkpoint(directory / "tiny.safetensors")
    audio = make_recordings(directory / "noises", NUM_RECORDINGS)
    scoring = ["--model", str(model), "--audio_dir", str(audio), "--device", "cpu", "--num_workers", "0"]
    expected = Expected(
        directory / "store",
        Door("train", [part for name, value in options.items() for part in (f"--{name}", str(value))]),
        Door("score", [*scoring, "--eval_batch_size", "4", "--output", "scores.txt"]),
        Door("register", []),
    )
    expected.directory.mkdir()
    (expected.directory / "artifacts").mkdir()
    MlflowClient(f"sqlite:///{expected.directory}/mlflow.db").search_experiments()
    with open_round(directory / "training", expected, random.Random(0)) as work:
        _do(work, expected.train)
        run = find_runs(work.client, "train")[0]
        expected.training = describe_training(work.client, run, directory)
        expected.known_runs = [run.info.run_id]
    shutil.rmtree(expected.directory)
    shutil.copytree(directory / "training", expected.directory)
    expected.register.arguments = [
        "--run_id",
        expected.known_runs[0],
        "--epoch",
        "1",
        "--stage",
        "production",
    ]
    return expected


def _do(work: Round, door: Door) -> None:
    start = time.monotonic()
    if work.finish(door):
        raise RuntimeError(f"{door.name} failed undisturbed: {_last_words(work)}")
    door.duration_s = time.monotonic() - start


def _last_words(work: Round) -> str:
    paths = sorted(work.directory.glob("process*.txt"))
    return paths[-1].read_text(errors="replace")[-1500:] if paths else ""


def play(number: int, seed: int, expected: Expected, directory: Path, kind: str = "") -> list[str]:
    """Plays a round, prints it, and returns what it found; its directory stays where it found anything."""
    rng = random.Random(f"{seed}:{number}")
    kind = kind or rng.choice(sorted(ROUNDS))
    start = time.monotonic()
    with open_round(directory, expected, rng) as work:
        try:
            found = [*ROUNDS[kind](work), *check_processes(work)]
        except Exception:  # of the harness: the others are played all the same
            found = [traceback.format_exc()]
    print(f"round {number} {kind} {time.monotonic() - start:.0f} s: {'; '.join(work.log)}", flush=True)
    for text in found:
        print(f"    {text}", flush=True)
    if not found:
        shutil.rmtree(directory)
    return found


@click.command()
@click.option("--rounds", default=50, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--only", type=int, help="play this round alone")
@click.option(
    "--kind",
    default="",
    type=click.Choice(["", *sorted(ROUNDS)]),
    help="in the place of a kind that is drawn",
)
@click.option("--repeats", default=1, show_default=True, help="how often each round is played")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="where to work [default: a temporary place]"
)
def main(rounds: int, seed: int, only: int | None, kind: str, repeats: int, directory: Path | None) -> None:
    """Play rounds, and end with 1 where one of them found anything."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    root = directory or Path(tempfile.mkdtemp(prefix="kills-"))
    place = Path(tempfile.mkdtemp(prefix="play-", dir=root)) if directory and root.exists() else root
    expected = prepare(place / "undisturbed")
    took = ", ".join(
        f"{door.name} {door.duration_s:.0f} s" for door in (expected.train, expected.score, expected.register)
    )
    print(f"undisturbed: {took}; in {place}", flush=True)
    numbers = range(rounds) if only is None else [only]
    failed = [
        number
        for number in numbers
        for repeat in range(repeats)
        if play(number, seed, expected, place / f"round{number}-{repeat}", kind)
    ]
    print(f"{len(failed)} of {len(numbers) * repeats} rounds found something: {sorted(set(failed))}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
