"""Measures on a GPU all that one must show, in at most eight minutes, and writes it down as a page.

    python -m benchmarks.gpu --page benchmarks/results/gpu.md

It runs from a checkout and needs Python 3.12, PyTorch 2.11 with torchaudio, and accelerate; MLflow is not needed.
What else is missing there (soundfile with cffi and pycparser, soxr, av) can be brought along as wheels; see --help.

Each phase of `benchmarks.gpu_phases` is a process of its own with its own limit of time, so that one that fails or
hangs does not cost the others. The page is written anew after each figure: a run that is cut off still tells.
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from sls.files import write_whole

Row = dict[str, Any]

PROJECT_ROOT = Path(__file__).resolve().parents[1]
GFLOP_PER_UTTERANCE = {"scoring": 150, "training": 450}
"""Of the 300M shape, forward alone, and forward and backward; given, not measured."""
SEED_WAY = "seed system's"


@dataclass
class Phase:
    """A part of the page, and what came of it."""

    name: str
    limit_s: float
    title: str
    text: str
    """What the figures are of."""
    rows: list[Row] = field(default_factory=list)
    failure: str = ""
    duration_s: float = 0


SETTLED = "Rates are of steady work, files included, the start of the workers and the first batches left out."
PHASES = [
    Phase(
        "machine",
        40,
        "The machine",
        "Products of two square matrices of random numbers, 8,192 wide on a GPU.",
    ),
    Phase(
        "scoring", 100, "Scoring", f"{SETTLED} `wait` is the share of the time spent on waiting for files."
    ),
    Phase(
        "training",
        120,
        "Training",
        f"{SETTLED} RawBoost 3, Adam over all weights, one CUDA graph for each step.",
    ),
    Phase(
        "compiled", 150, "Compiled layers", "bf16. `start` is the time until the first step or batch is done."
    ),
    Phase("tests", 150, "Tests that need a GPU", "`pytest -m gpu`."),
    Phase(
        "profile",
        60,
        "Where the time goes",
        "The ten kernels that a GPU spends most time on, in bf16; training has compiled layers.",
    ),
    Phase(
        "loading", 50, "Workers", "Training in bf16, files read and RawBoost 3 applied by so many processes."
    ),
]


@click.command()
@click.option("--page", type=click.Path(path_type=Path), default="gpu.md", show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--shape", default="300m", show_default=True, help="random:NAME's NAME")
@click.option("--workers", default=16, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="How long each way is measured.")
@click.option("--only", default="", help="Phases, joined by commas. [default: all]")
@click.option("--minutes", default=8.0, show_default=True, help="Limit of the whole.")
@click.option(
    "--wheels",
    type=click.Path(path_type=Path),
    help="Folder of wheels to install, into a temporary place, before anything else: of soundfile, cffi, pycparser, "
    "soxr, av and pytest-timeout for the Python of this machine, made elsewhere by `pip download --no-deps`.",
)
def main(
    page: Path,
    device: str,
    shape: str,
    workers: int,
    seconds: float,
    only: str,
    minutes: float,
    wheels: Path | None,
) -> None:
    """Measures scoring and training on a GPU beside the seed system's way, and writes a page."""
    ends_s = time.monotonic() + 60 * minutes
    phases = [phase for phase in PHASES if not only or phase.name in only.split(",")]
    if not phases:
        names = ", ".join(phase.name for phase in PHASES)
        raise click.BadParameter(f"found {only}, expected some of {names}", param_hint="--only")
    options = {"device": device, "shape": shape, "workers": workers, "seconds": seconds}
    command = shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as site:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if wheels is not None:
            _install(wheels, Path(site))
            environment["PYTHONPATH"] = os.pathsep.join([site, os.environ.get("PYTHONPATH", "")]).rstrip(":")
        for phase in phases:
            started_s = time.monotonic()
            limit_s = min(phase.limit_s, ends_s - started_s)
            for row in _run(phase, options, environment, limit_s):
                phase.rows.append(row)
                print(f"[{phase.name}] {json.dumps(row)}", flush=True)
                _write(page, phases, options, command)
            phase.duration_s = time.monotonic() - started_s
            print(f"[{phase.name}] {phase.failure or 'done'}, {phase.duration_s:.0f} s", flush=True)
            _write(page, phases, options, command)
    print(f"Wrote {page}")
    sys.exit(any(phase.failure for phase in phases))


def _install(wheels: Path, site: Path) -> None:
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise click.BadParameter(f"found no wheel in {wheels}", param_hint="--wheels")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(site), *files], check=True)


def _run(phase: Phase, options: Row, environment: dict[str, str], limit_s: float) -> Iterator[Row]:
    """Yields the rows that the process of a phase prints, and says in the phase what went wrong."""
    if limit_s <= 0:
        phase.failure = "not begun: the time was up"
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu_phases", phase.name, json.dumps(options)],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # with its workers it can be ended as one
    )
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.rstrip())
        lines.put("")
        lines.put("END")

    threading.Thread(target=read, daemon=True).start()
    ends_s, last = time.monotonic() + limit_s, ""
    try:
        while (line := lines.get(timeout=max(0.01, ends_s - time.monotonic()))) != "END":
            if line.startswith("ROW "):
                yield json.loads(line.removeprefix("ROW "))
            elif line:
                last = line
                print(f"    {line}", flush=True)
        if process.wait() != 0:
            phase.failure = f"failed: {last}"
    except queue.Empty:
        phase.failure = f"cut off after {limit_s:.0f} s"
    finally:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(page: Path, phases: list[Phase], options: Row, command: str) -> None:
    """Writes the page with what is known by now."""
    parts = [
        "# On a GPU",
        f"{datetime.date.today()}, `{command}`: the "
        f"{options['shape']} shape with random weights, FLAC files of 4.04 s of noise, {options['workers']} workers. "
        "The seed system's way runs the encoder twice for each batch, with gradients, in batches of its own size; "
        "here by torchaudio's encoder, which stands in for fairseq's. TFLOP/s are counted at "
        f"{GFLOP_PER_UTTERANCE['scoring']} GFLOP for an utterance scored and {GFLOP_PER_UTTERANCE['training']} for "
        "one trained on, which are given for this shape and were not measured.",
    ]
    peaks = {row["precision"]: row["TFLOP/s"] for row in phases[0].rows if "precision" in row}
    for phase in phases:
        took = f" ({phase.duration_s:.0f} s)" if phase.duration_s else ""
        parts.append(f"## {phase.title}{took}")
        parts.append(phase.text)
        if phase.failure:
            parts.append(f"**{phase.failure}**")
        rows = [_with_shares(row, phase, peaks, options["shape"]) for row in phase.rows]
        # Rows of one kind have the same columns.
        for columns in dict.fromkeys(tuple(row) for row in rows):
            same = [row for row in rows if tuple(row) == columns]
            parts.append(
                "\n".join(["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|", *map(_line, same)])
            )
    with write_whole(page) as file:
        file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _with_shares(row: Row, phase: Phase, peaks: dict[str, float], shape: str) -> Row:
    """Returns a row with its ratio to the first of its phase, and its share of the machine's arithmetic."""
    first = phase.rows[0].get("utt/s")
    if "utt/s" not in row or "precision" not in row:
        return row
    row = {**row, "ratio": row["utt/s"] / first} if phase.name in GFLOP_PER_UTTERANCE and first else {**row}
    gflop = GFLOP_PER_UTTERANCE.get(row.get("work", phase.name))
    if shape == "300m" and gflop:
        is_one_pass = row.get("way") != SEED_WAY  # whose second pass is not counted
        tflops, peak = row["utt/s"] * gflop / 1000, peaks.get(row["precision"])
        row["TFLOP/s"] = tflops if is_one_pass else ""
        row["of the machine's"] = f"{tflops / peak:.0%}" if peak and is_one_pass else ""
    return row


def _line(row: Row) -> str:
    return (
        "| "
        + " | ".join(f"{cell:,.4g}" if isinstance(cell, float) else f"{cell}" for cell in row.values())
        + " |"
    )


if __name__ == "__main__":
    main()
