"""How fast a way of working is on a device, and the corpus that the ways share; for `benchmarks.gpu`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.scoring import make_files
from sls.config import NUM_SAMPLES
from sls.data.tables.protocols import Trial
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure

Row = dict[str, Any]


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


def top_kernels(work: str, way: Way, options: Options, count: int = 5) -> Iterator[Row]:
    """Yields the ten kernels that take longest in some batches of a way, and all of them together."""
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
