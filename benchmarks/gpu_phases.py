"""The phases of `benchmarks.gpu`, each run as `python -m benchmarks.gpu_phases NAME OPTIONS`.

A phase yields rows of its table, which are printed as lines of JSON after the word ROW.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu_pace import OnBatch, Options, Row, measure
from benchmarks.gpu_work import compiled, loading, profiled, scoring, training
from sls.engine.compute.device import arithmetic

GPU_MARK = "pytest.mark.gpu"


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


def tests(options: Options) -> Iterator[Row]:
    """Yields how each test ended that is marked as needing a GPU."""
    # These files alone: to import all tests takes longer than to run the marked ones.
    files = [
        str(path) for path in sorted(Path("tests").rglob("test_*.py")) if GPU_MARK in path.read_text("utf-8")
    ]
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"\S+::(\S+) (PASSED|FAILED|ERROR|SKIPPED)", line):
                yield {"test": f"`{found[1]}`", "outcome": found[2].lower()}
            else:
                print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"pytest ended with {process.returncode}")


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
