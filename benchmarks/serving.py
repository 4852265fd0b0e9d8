"""Measures the served model over HTTP: latency, throughput, overhead, the shift of scores by precision, and memory.

    OMP_NUM_THREADS=1 python -m benchmarks.serving --shape tiny --requests 200 --memory-requests 10000
    OMP_NUM_THREADS=1 python -m benchmarks.serving --shape 300m --requests 16

A real `mlflow models serve` on loopback answers clients of `http.client`, which keep their connections. Each request
brings one FLAC file of 4.04 s of noise. The weights are random. The bare model, `explain` on a batch of one in the
process of the benchmark, takes turns with single requests. On a machine that others use, take one thread: several
wait for the one whose core is taken, for many times as long as they compute.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import psutil
import soundfile
import torch

from benchmarks.model_server import RunningServer, running_server
from sls.config import NUM_SAMPLES, SAMPLE_RATE_HZ, Precision
from sls.engine.compute.device import arithmetic
from sls.models.checkpoints import (
    CheckpointInfo,
    LoadedCheckpoint,
    build_countermeasure,
    load_checkpoint,
    save_checkpoint,
)
from sls.serving.bundle import save_served_model
from sls.serving.contract import PRECISIONS

CLIENTS = (1, 4, 16)
NUM_RECORDINGS = 16
# 16 clients of a large model on two cores wait longer than the minute that the server gives a request by itself.
ENVIRONMENT = {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "600"}
WARM_UP = 3
BAD_SHARE = 10
"""One of so many requests of the memory test is bad."""


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, body: bytes) -> tuple[float, int, bytes]:
        """Returns the seconds until the whole answer is there, its status and its text."""
        start_s = time.perf_counter()
        self._connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        return time.perf_counter() - start_s, answer.status, text

    def score(self, body: bytes) -> tuple[float, float]:
        """Returns the seconds and the score."""
        taken_s, status, text = self.ask(body)
        if status != 200:
            raise RuntimeError(f"{status}: {text[:300]!r}")
        return taken_s, float(json.loads(text)["predictions"][0]["score"])


def make_requests(count: int) -> tuple[list[np.ndarray], list[bytes]]:
    """Returns noises of several levels, and the requests that bring them as FLAC files."""
    rng = np.random.default_rng(5)
    waveforms, bodies = [], []
    for _ in range(count):
        content = io.BytesIO()
        noise = rng.normal(0, 10 ** rng.uniform(-2.5, -1), NUM_SAMPLES)
        soundfile.write(content, noise, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        waveforms.append(soundfile.read(io.BytesIO(content.getvalue()), dtype="float32")[0])
        audio = base64.b64encode(content.getvalue()).decode()
        bodies.append(json.dumps({"dataframe_records": [{"audio": audio}]}).encode())
    return waveforms, bodies


def measure_overhead(
    port: int,
    checkpoint: LoadedCheckpoint,
    precision: Precision,
    turns: int,
    waveforms: list[np.ndarray],
    bodies: list[bytes],
) -> None:
    """Prints the time of a request beside that of the bare model, turn by turn."""
    served, bare = [], []
    for turn in range(WARM_UP + turns):
        index = turn % len(bodies)
        # Of its own connection: the server closes one that is idle for 5 s, as it is while the bare model computes.
        taken_s, _ = Client(port).score(bodies[index])
        batch = torch.from_numpy(waveforms[index])[None]
        start_s = time.perf_counter()
        with torch.inference_mode(), arithmetic(precision, torch.device("cpu")):
            checkpoint.model.explain(batch)
        if turn >= WARM_UP:
            served.append(taken_s)
            bare.append(time.perf_counter() - start_s)
    ratio = statistics.median(one / other for one, other in zip(served, bare, strict=True))
    difference_s = statistics.median(one - other for one, other in zip(served, bare, strict=True))
    print(
        f"{precision}: request {1e3 * statistics.median(served):.1f} ms, bare model "
        f"{1e3 * statistics.median(bare):.1f} ms, medians of {turns} turns; of the pairs: {ratio:.3f} times as long, "
        f"{1e3 * difference_s:+.1f} ms"
    )


def measure_clients(port: int, count: int, num_requests: int, bodies: list[bytes]) -> None:
    """Prints latency and throughput of clients that ask at once, each as soon as it has its answer."""

    def work(client: int) -> list[float]:
        connection = Client(port)
        share = range(client, num_requests, count)
        return [connection.score(bodies[index % len(bodies)])[0] for index in share]

    start_s = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        latencies = [taken for share in pool.map(work, range(count)) for taken in share]
    duration_s = time.perf_counter() - start_s
    median_s, high_s = np.quantile(latencies, [0.5, 0.99])
    print(
        f"| {count} | {len(latencies)} | {1e3 * median_s:.0f} | {1e3 * high_s:.0f} | "
        f"{len(latencies) / duration_s:.2f} |"
    )


def measure_memory(server: RunningServer, num_requests: int, bodies: list[bytes]) -> None:
    """Prints the resident memory of the server over many requests, of which some are bad."""
    bad = json.dumps({"dataframe_records": [{"audio": "no base64"}]}).encode()
    client = Client(server.port)
    processes = [
        psutil.Process(server.process_id),
        *psutil.Process(server.process_id).children(recursive=True),
    ]
    largest = max(processes, key=lambda process: process.memory_info().rss)
    start_s = time.perf_counter()
    for number in range(1, num_requests + 1):
        is_bad = number % BAD_SHARE == 0
        _, status, text = client.ask(bad if is_bad else bodies[number % len(bodies)])
        if status != (400 if is_bad else 200):
            raise RuntimeError(f"request {number}: {status}: {text[:300]!r}")
        if number in {100, num_requests} or number % (num_requests // 10) == 0:
            print(
                f"| {number} | {largest.memory_info().rss / 2**20:.1f} | {time.perf_counter() - start_s:.0f} |"
            )


@contextmanager
def served_model(shape: str) -> Iterator[tuple[Path, LoadedCheckpoint]]:
    """A bundle of a random model of a shape, and its checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1)
        info = CheckpointInfo(model.encoder, NUM_SAMPLES)
        file = save_checkpoint(directory / "model.safetensors", model, info)
        del model
        save_served_model(directory / "bundle", file)
        yield directory, load_checkpoint(file)


def _print_shift(scores: dict[Precision, Sequence[float]]) -> None:
    before = np.array(scores["fp32"])
    print(f"{len(before)} recordings, scores {before.min():.3f} to {before.max():.3f} in fp32")
    for precision, others in scores.items():
        shift = np.abs(np.array(others) - before)
        places = np.argsort(before) != np.argsort(others)
        print(
            f"{precision}: largest shift {shift.max():.1e}, mean {shift.mean():.1e}, {places.sum()} at another place"
        )


@click.command()
@click.option("--shape", default="tiny", show_default=True, help="random:NAME's NAME")
@click.option("--requests", default=200, show_default=True, help="for each number of clients, and turns")
@click.option("--memory-requests", default=0, show_default=True)
def main(shape: str, requests: int, memory_requests: int) -> None:
    """Prints what the module's text names."""
    waveforms, bodies = make_requests(NUM_RECORDINGS)
    print(f"random:{shape}, requests of {len(bodies[0]) / 1e3:.0f} kB, {torch.get_num_threads()} threads")
    scores: dict[Precision, Sequence[float]] = {}
    with served_model(shape) as (directory, checkpoint):
        for precision in PRECISIONS:
            with running_server(
                directory / "bundle", directory, **{**ENVIRONMENT, "SLS_SERVE_PRECISION": precision}
            ) as server:
                client = Client(server.port)
                scores[precision] = [client.score(body)[1] for body in bodies]
                measure_overhead(server.port, checkpoint, precision, requests, waveforms, bodies)
                print("| clients | requests | median ms | 99 % ms | requests/s |\n|---|---|---|---|---|")
                for count in CLIENTS:
                    measure_clients(server.port, count, max(requests, count), bodies)
                if memory_requests and precision == "fp32":
                    print("| requests | MiB | s |\n|---|---|---|")
                    measure_memory(server, memory_requests, bodies)
    _print_shift(scores)


if __name__ == "__main__":
    main()
