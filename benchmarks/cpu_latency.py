"""Measures the latency of one utterance on a CPU by precision, threads and clients, beside ONNX Runtime.

    pip install onnx onnxruntime onnxscript
    python -m benchmarks.cpu_latency --shape 300m --turns 7 --threads 1 --threads 2 --clients 1 --clients 4
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python -m benchmarks.cpu_latency --precision fp32 --precision int8

The second command stands for a CPU that has VNNI and neither bf16 nor AMX. ONNX Runtime does not heed it and is left
out there.

The ways take turns on the same weights, which are random, with one utterance of 4.04 s for each client. Each client
asks again when all have their answer. Ours are computed together as the served model does, without HTTP, which
`benchmarks.serving` measures; of ONNX Runtime all clients share a session, whose int8 is that of its own tool.
Shifts are of log P(bona fide) against fp32, over the same noises.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.model_precision import make_waveforms
from benchmarks.scoring import cpu_name
from sls.config import NUM_SAMPLES, Precision
from sls.engine.compute.device import DTYPES, arithmetic
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure
from sls.models.packing import pack
from sls.quotation import count_of
from sls.serving.answers import BATCH_SIZE, SharedBatches

CPU = torch.device("cpu")
WARM_UP = 2
NUM_WAVEFORMS = 4
Scorer = Callable[[Tensor], Tensor]


def our_ways(shape: str, precisions: Sequence[Precision]) -> dict[str, Scorer]:
    """Returns ours by precision, as served, and before them the model with its own layers."""
    plain = _way(_build(shape), "fp32")
    ways = {"fp32, layers of PyTorch": plain}
    for precision in precisions:
        model = _build(shape)
        pack(model, DTYPES[precision])
        ways[precision] = _way(model, precision)
    return ways


def _build(shape: str) -> Countermeasure:
    return build_countermeasure(f"random:{shape}", NUM_SAMPLES, seed=1234).eval()


def _way(model: Countermeasure, precision: Precision) -> Scorer:
    def score(waveforms: list[Tensor]) -> list[Tensor]:
        with torch.inference_mode(), arithmetic(precision, CPU):
            return list(model(torch.cat(waveforms)))

    batches = SharedBatches(score, BATCH_SIZE)
    return lambda waveform: batches([waveform])[0]


def onnx_ways(shape: str, directory: Path, threads: int) -> dict[str, Scorer]:
    """Returns ONNX Runtime on the same weights, in fp32 and with its int8 layers."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact, quantised = directory / "fp32.onnx", directory / "int8.onnx"
    if not exact.exists():
        example = torch.zeros(1, NUM_SAMPLES)
        torch.onnx.export(
            _build(shape), (example,), exact, input_names=["waveforms"], dynamo=True, external_data=True
        )
        quantize_dynamic(
            exact,
            quantised,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads

    def way(file: Path) -> Scorer:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda waveform: torch.from_numpy(session.run(None, {"waveforms": waveform.numpy()})[0][0])

    return {"ONNX Runtime, fp32": way(exact), "ONNX Runtime, int8": way(quantised)}


@click.command()
@click.option("--shape", default="300m", show_default=True, help="random:NAME's NAME")
@click.option("--turns", default=7, show_default=True)
@click.option("--threads", multiple=True, default=(1,), show_default=True)
@click.option("--clients", multiple=True, default=(1,), show_default=True)
@click.option("--precision", "precisions", multiple=True, default=("fp32", "bf16", "int8"), show_default=True)
def main(
    shape: str,
    turns: int,
    threads: tuple[int, ...],
    clients: tuple[int, ...],
    precisions: tuple[Precision, ...],
) -> None:
    """Prints a table for each number of threads and of clients."""
    logging.disable(logging.WARNING)
    waveforms = make_waveforms(NUM_WAVEFORMS)
    with tempfile.TemporaryDirectory() as name:
        for count in threads:
            torch.set_num_threads(count)
            ways = our_ways(shape, precisions)
            if "ONEDNN_MAX_CPU_ISA" not in os.environ:
                ways |= onnx_ways(shape, Path(name), count)
            for asking in clients:
                print(
                    f"\n{cpu_name()}, {count_of(count, 'thread')}, {count_of(asking, 'client')}, {turns} turns\n"
                )
                measure(ways, waveforms, turns, asking)


def measure(ways: dict[str, Scorer], waveforms: Tensor, turns: int, clients: int) -> None:
    """Prints for each way the median, 99th percentile and least of its times, and how far it moves the scores."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    scores = {
        name: torch.stack([score(one[None])[1] for one in waveforms]).double() for name, score in ways.items()
    }
    with ThreadPoolExecutor(clients) as pool:
        for turn in range(WARM_UP + turns):
            for name, score in ways.items():
                asked = [waveforms[(turn + client) % len(waveforms)][None] for client in range(clients)]
                times = list(pool.map(partial(_time, score), asked))
                taken[name] += times if turn >= WARM_UP else []
    print("| way | median ms | 99 % ms | least ms | of fp32 | largest shift |\n|---|---|---|---|---|---|")
    reference = np.median(taken["fp32"])
    for name, times in taken.items():
        median, high = np.quantile(times, [0.5, 0.99])
        shift = float((scores[name] - scores["fp32"]).abs().max())
        print(
            f"| {name} | {median:.0f} | {high:.0f} | {min(times):.0f} | {median / reference:.2f} | {shift:.1e} |",
            flush=True,
        )


def _time(score: Scorer, waveform: Tensor) -> float:
    """Returns the milliseconds of one request."""
    start_s = time.perf_counter()
    score(waveform)
    return 1000 * (time.perf_counter() - start_s)


if __name__ == "__main__":
    main()
