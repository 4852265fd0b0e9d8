"""The phases of `benchmarks.gpu`, each run as `python -m benchmarks.gpu_phases NAME OPTIONS`.

A phase yields rows of its table, which are printed as lines of JSON after the word ROW.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.scoring import SEED_BATCH_SIZE, make_files, score_batch_as_seed
from benchmarks.training import SeedWay
from sls.config import NUM_SAMPLES, AudioConfig, ComputeConfig, Config, ScoringConfig
from sls.config_file import build_config
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.engine.compute.device import arithmetic, peak_memory_gib, reset_peak_memory
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.scoring.forward_pass import resolve_batch_size
from sls.engine.scoring.loop import ScoringJob, score
from sls.engine.training.loop import Training
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure

Row = dict[str, Any]

RECIPE_BATCH_SIZE = 5
LARGER_BATCHES = (32, 64, 128)


@dataclass(frozen=True)
class Options:
    """What the phases are told."""

    device: str
    shape: str
    workers: int
    seconds: float
    """How long each way is measured."""

    @property
    def is_on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == "cuda"

    @property
    def unmeasured(self) -> int:
        """Batches before the clock starts."""
        return 10 if self.is_on_gpu else 1

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the device can do."""
        return ("fp32", "tf32", "bf16") if self.is_on_gpu else ("fp32", "bf16")

    def wait(self) -> None:
        """Waits until the device has done what it was given."""
        if self.is_on_gpu:
            torch.cuda.synchronize(self.device)


OnBatch = Callable[[int], None]
Way = Callable[[OnBatch], object]
"""A way of working, which tells the size of each batch that is done until it is stopped by an exception."""


class Done(Exception):
    """Enough was seen of a way."""


class Pace(NamedTuple):
    """How fast a way was."""

    utterances_per_second: float
    start_s: float
    """Until the first batch was done."""


def measure(way: Way, options: Options, unmeasured: int) -> Pace:
    """Returns the pace of a way, after some batches at the start."""
    begun_s, start_s, pace = time.perf_counter(), 0.0, None
    num_batches = count = 0

    def on_batch(size: int) -> None:
        nonlocal begun_s, start_s, num_batches, count, pace
        num_batches += 1
        if num_batches == 1:
            options.wait()
            start_s = time.perf_counter() - begun_s
        if num_batches == unmeasured:
            options.wait()
            begun_s = time.perf_counter()
        elif num_batches > unmeasured:
            count += size
            if time.perf_counter() - begun_s > options.seconds:
                options.wait()
                pace = Pace(count / (time.perf_counter() - begun_s), start_s)
                raise Done

    with suppress(Done):
        way(on_batch)
    if pace is None:
        raise ValueError("the corpus ended before the measurement")
    return pace


def machine(options: Options) -> Iterator[Row]:
    """Yields what the machine is, and how fast it multiplies."""
    if options.is_on_gpu:
        properties = torch.cuda.get_device_properties(options.device)
        name, memory = properties.name, f"{properties.total_memory / 2**30:.0f} GiB"
    else:
        name, memory = platform.processor() or platform.machine(), "shared"
    yield {
        "device": name,
        "memory": memory,
        "CPU cores": os.cpu_count(),
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
    }
    width = 8192 if options.is_on_gpu else 512
    for precision in options.precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        matrices = torch.randn(2, width, width, device=options.device, dtype=dtype)

        def multiply(on_batch: OnBatch, matrices: torch.Tensor = matrices) -> None:
            while True:
                torch.mm(*matrices)
                options.wait()
                on_batch(1)

        with arithmetic("tf32" if precision == "tf32" else "fp32", torch.device(options.device)):
            pace = measure(multiply, replace(options, seconds=options.seconds / 4), 3)
        yield {"precision": precision, "TFLOP/s": pace.utterances_per_second * 2 * width**3 / 1e12}


def scoring(options: Options) -> Iterator[Row]:
    """Yields the paces of scoring."""
    with corpus(options) as trials:
        model = build(options)
        size = SEED_BATCH_SIZE
        pace = measure(partial(_score_as_seed, model, trials, options), options, options.unmeasured)
        yield {
            "way": "seed system's",
            "precision": "fp32",
            "batch": size,
            "utt/s": pace.utterances_per_second,
        }
        yield {
            "way": "ours, files read alone",
            "batch": 64,
            "utt/s": measure(
                partial(_read_alone, trials, options),
                options,
                8 * options.workers if options.is_on_gpu else 1,
            )[0],
        }
        for precision in options.precisions:
            compute = ComputeConfig(num_workers=options.workers, eval_batch_size=0, precision=precision)
            yield _scoring_row(model, trials, options, compute)


def _scoring_row(model: Countermeasure, trials: list[Trial], options: Options, compute: ComputeConfig) -> Row:
    device = torch.device(options.device)
    size = resolve_batch_size(model, NUM_SAMPLES, compute, device)
    compute = replace(compute, eval_batch_size=size)
    waits: list[float] = []
    unmeasured = 4 if options.is_on_gpu else 1

    def way(on_batch: OnBatch) -> None:
        data = ScoringBatches(TrialDataset(trials, AudioConfig()), size)
        job = ScoringJob(model, data, compute, ScoringConfig(), device, Path("scores.txt"), {})
        for batch in score(job, range(len(data))):
            waits.append(batch.times.wait_s)
            on_batch(len(batch.scores))

    reset_peak_memory(device)
    pace = measure(way, options, unmeasured)
    return {
        "way": "ours, compiled" if compute.compile else "ours",
        "precision": compute.precision,
        "batch": size,
        "utt/s": pace.utterances_per_second,
        "start s": pace.start_s,
        "wait": f"{sum(waits[unmeasured:]) / options.seconds:.0%}",
        "peak GiB": peak_memory_gib(device),
    }


def _score_as_seed(model: Countermeasure, trials: list[Trial], options: Options, on_batch: OnBatch) -> None:
    model.eval()
    for start in range(0, len(trials), SEED_BATCH_SIZE):
        part = trials[start : start + SEED_BATCH_SIZE]
        on_batch(len(score_batch_as_seed(model, part, torch.device(options.device))))


def _read_alone(trials: list[Trial], options: Options, on_batch: OnBatch) -> None:
    data = ScoringBatches(TrialDataset(trials, AudioConfig()), 64)
    for batch in load_batches(data, range(len(data)), options.workers, pin_memory=options.is_on_gpu):
        on_batch(len(batch.trials))


def training(options: Options) -> Iterator[Row]:
    """Yields the paces of training, at the recipe's batch and at larger ones; on a GPU steps are captured."""
    with corpus(options) as trials:
        model = build(options)
        config = _training_config(options, RECIPE_BATCH_SIZE, "fp32")
        seed = SeedWay(copy.deepcopy(model), trials, config, torch.device(options.device))
        yield _training_row("seed system's", config, seed.train, options)
        del seed
        for precision in options.precisions:
            config = _training_config(options, RECIPE_BATCH_SIZE, precision)
            yield _training_row(
                "ours", config, partial(_train, copy.deepcopy(model), trials, config), options
            )
        if not options.is_on_gpu:
            return
        config = _training_config(options, RECIPE_BATCH_SIZE, "bf16")
        with patch("sls.engine.training.loop.can_capture", return_value=False):
            launched = partial(_train, copy.deepcopy(model), trials, config)
            yield _training_row("ours, kernel by kernel", config, launched, options)
        best_rate, best = 0.0, RECIPE_BATCH_SIZE
        for size in LARGER_BATCHES:
            config = _training_config(options, size, "bf16")
            row = _training_row(
                "ours", config, partial(_train, copy.deepcopy(model), trials, config), options
            )
            if row["utt/s"] > 1.02 * best_rate:
                best_rate, best = row["utt/s"], size
            yield row
        for precision in ("fp32", "tf32"):
            config = _training_config(options, best, precision)
            way = partial(_train, copy.deepcopy(model), trials, config)
            yield _training_row("ours", config, way, options)


def _training_config(options: Options, batch_size: int, precision: str, **values: Any) -> Config:
    return build_config(
        {
            "device": options.device,
            "batch_size": batch_size,
            "num_workers": options.workers,
            "precision": precision,
            **values,
        }
    )


def _training_row(name: str, config: Config, way: Way, options: Options) -> Row:
    gc.collect()  # of the way before
    reset_peak_memory(torch.device(options.device))
    pace = measure(way, options, options.unmeasured)
    row = {
        "way": name,
        "precision": config.compute.precision,
        "batch": config.training.batch_size,
        "utt/s": pace.utterances_per_second,
        "ms a step": 1000 * config.training.batch_size / pace.utterances_per_second,
        "start s": pace.start_s,
        "peak GiB": peak_memory_gib(torch.device(options.device)),
    }
    del way
    if options.is_on_gpu:
        torch.cuda.empty_cache()
    return row


def _train(model: Countermeasure, trials: list[Trial], config: Config, on_batch: OnBatch) -> None:
    """Trains with the loop of the train door."""
    data = TrialDataset(trials, config.audio, config.rawboost)
    job = Training(model, data, None, config, open_accelerator(config.compute))
    for _ in job.epochs(on_step=lambda _: on_batch(config.training.batch_size)):
        pass


def loading(options: Options) -> Iterator[Row]:
    """Yields the paces of training by the number of workers."""
    few = replace(options, seconds=options.seconds / 2)
    size = LARGER_BATCHES[0] if options.is_on_gpu else RECIPE_BATCH_SIZE
    with corpus(options) as trials:
        model = build(options)
        for workers in dict.fromkeys(min(count, options.workers) for count in (1, 2, 4, options.workers)):
            config = _training_config(replace(few, workers=workers), size, "bf16")
            pace = measure(partial(_train, copy.deepcopy(model), trials, config), few, few.unmeasured)
            yield {"workers": workers, "batch": size, "utt/s": pace.utterances_per_second}


def profiled(options: Options) -> Iterator[Row]:
    """Yields the kernels that take longest, of training and of scoring."""
    with corpus(options) as trials:
        model = build(options)
        config = _training_config(options, RECIPE_BATCH_SIZE, "bf16")
        steps = partial(_train, copy.deepcopy(model), trials, config)
        yield from _top_kernels(f"a step of {RECIPE_BATCH_SIZE}", steps, options)
        del steps
        if options.is_on_gpu:
            config = _training_config(options, LARGER_BATCHES[1], "bf16")
            steps = partial(_train, copy.deepcopy(model), trials, config)
            yield from _top_kernels(f"a step of {LARGER_BATCHES[1]}", steps, options)
            del steps
        size = 64 if options.is_on_gpu else 2
        windows = torch.randn(size, NUM_SAMPLES, device=options.device)
        model.eval()

        def forward(on_batch: OnBatch) -> None:
            with torch.inference_mode(), arithmetic("bf16", torch.device(options.device)):
                while True:
                    on_batch(len(model(windows)))

        yield from _top_kernels(f"scoring {size}", forward, options)


def _top_kernels(work: str, way: Way, options: Options, count: int = 5) -> Iterator[Row]:
    kind = ProfilerActivity.CUDA if options.is_on_gpu else ProfilerActivity.CPU
    found = profile(activities=[kind])
    num_batches, started_s, wall_ms = 0, 0.0, 0.0

    def on_batch(size: int) -> None:
        nonlocal num_batches, started_s, wall_ms
        num_batches += 1
        if num_batches == options.unmeasured:
            options.wait()
            found.start()
            started_s = time.perf_counter()
        elif num_batches == options.unmeasured + count:
            options.wait()
            wall_ms = 1000 * (time.perf_counter() - started_s) / count
            found.stop()
            raise Done

    with suppress(Done):
        way(on_batch)
    spent = "self_device_time_total" if options.is_on_gpu else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: -getattr(event, spent))
    busy_ms = sum(getattr(event, spent) for event in events) / 1000 / count
    for event in events[:10]:
        own_ms = getattr(event, spent) / 1000 / count
        name = event.key.replace("|", "/").replace("void ", "").replace("at::native::", "")
        share = f"{own_ms / busy_ms:.0%}"
        yield {
            "of": work,
            "kernel": f"`{name[:90]}`",
            "calls": event.count // count,
            "ms": own_ms,
            "share": share,
        }
    calls, share = sum(event.count for event in events) // count, f"{busy_ms / wall_ms:.0%} of the clock"
    yield {"of": work, "kernel": "all", "calls": calls, "ms": busy_ms, "share": share}


def compiled(options: Options) -> Iterator[Row]:
    """Yields the paces with compiled layers."""
    with corpus(options) as trials:
        model = build(options)
        # On a CPU they take most of a minute to compile.
        for size in (RECIPE_BATCH_SIZE, LARGER_BATCHES[1]) if options.is_on_gpu else ():
            config = _training_config(options, size, "bf16", compile=True)
            steps = partial(_train, copy.deepcopy(model), trials, config)
            yield {"work": "training", **_training_row("ours, compiled", config, steps, options)}
            torch.compiler.reset()  # or the next program would be one for all sizes
        compute = ComputeConfig(
            num_workers=options.workers, eval_batch_size=0, precision="bf16", compile=True
        )
        yield {"work": "scoring", **_scoring_row(model, trials, options, compute)}


def tests(options: Options) -> Iterator[Row]:
    """Yields how each test ended that is marked as needing a GPU."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests/data",
        "tests/engine",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"\S+::(\S+) (PASSED|FAILED|ERROR|SKIPPED)", line):
                yield {"test": f"`{found[1]}`", "outcome": found[2].lower()}
            else:
                print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"pytest ended with {process.returncode}")


def build(options: Options) -> Countermeasure:
    """Returns a countermeasure of random weights on the device."""
    return build_countermeasure(f"random:{options.shape}", NUM_SAMPLES, 1).to(options.device)


@contextmanager
def corpus(options: Options) -> Iterator[list[Trial]]:
    """Yields more trials than any way gets through, over a few FLAC files that are there for a `with` block."""
    num_files, num_trials = (256, 400_000) if options.is_on_gpu else (16, 4_000)
    with tempfile.TemporaryDirectory() as directory:
        files = make_files(Path(directory), num_files)
        yield [Trial(f"t{i}", files[i % num_files].path, i % 2) for i in range(num_trials)]


PHASES: dict[str, Callable[[Options], Iterator[Row]]] = {
    "machine": machine,
    "scoring": scoring,
    "training": training,
    "loading": loading,
    "profile": profiled,
    "compiled": compiled,
    "tests": tests,
}

if __name__ == "__main__":
    for row in PHASES[sys.argv[1]](Options(**json.loads(sys.argv[2]))):
        print("ROW " + json.dumps(row), flush=True)
