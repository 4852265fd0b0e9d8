"""Measures the latency of one utterance on a CPU by precision and threads, beside ONNX Runtime on the same weights.

    pip install onnx onnxruntime onnxscript
    python -m benchmarks.cpu_latency --shape 300m --turns 7 --threads 1 --threads 2

The ways take turns, one utterance of 4.04 s each; weights are random. `int8` is dynamic quantisation of the linear
layers: by PyTorch's own quantised layers (`torch.ao`, which is deprecated) with oneDNN, and by ONNX Runtime's tool.
Shifts are of log P(bona fide) against fp32, over the same noises.
"""

import copy
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.model_precision import make_waveforms
from sls.config import NUM_SAMPLES
from sls.engine.compute.device import arithmetic
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure
from sls.models.packing import pack

CPU = torch.device("cpu")
WARM_UP = 2
NUM_WAVEFORMS = 4
Scorer = Callable[[Tensor], Tensor]


def our_ways(model: Countermeasure) -> dict[str, Scorer]:
    """Returns ours by precision, and PyTorch's int8 layers in the same model."""

    def way(model: nn.Module, is_bf16: bool) -> Scorer:
        def score(waveforms: Tensor) -> Tensor:
            with arithmetic("bf16" if is_bf16 else "fp32", CPU):
                return model(waveforms)

        return score

    ways = {"fp32": way(model, False), "bf16": way(model, True)}
    for name, dtype in (("fp32, packed", torch.float32), ("bf16, packed", torch.bfloat16)):
        packed = copy.deepcopy(model)
        pack(packed, dtype)
        ways[name] = way(packed, dtype == torch.bfloat16)
    torch.backends.quantized.engine = "onednn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    for layer in quantised.modules():
        if isinstance(layer, torch.ao.nn.quantized.dynamic.Linear):
            layer.register_forward_pre_hook(lambda _, given: (given[0].float(),))
    return ways | {"int8": way(quantised, False), "int8, the rest in bf16": way(quantised, True)}


def onnx_ways(model: Countermeasure, directory: Path, threads: int) -> dict[str, Scorer]:
    """Returns ONNX Runtime on the same weights, in fp32 and with its int8 layers."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact, quantised = directory / "fp32.onnx", directory / "int8.onnx"
    if not exact.exists():
        example = torch.zeros(1, NUM_SAMPLES)
        torch.onnx.export(
            model, (example,), exact, input_names=["waveforms"], dynamo=True, external_data=True
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
        return lambda waveforms: torch.from_numpy(session.run(None, {"waveforms": waveforms.numpy()})[0])

    return {"ONNX Runtime, fp32": way(exact), "ONNX Runtime, int8": way(quantised)}


@click.command()
@click.option("--shape", default="300m", show_default=True, help="random:NAME's NAME")
@click.option("--turns", default=7, show_default=True)
@click.option("--threads", multiple=True, default=(1, 2), show_default=True)
def main(shape: str, turns: int, threads: tuple[int, ...]) -> None:
    """Prints a table for each number of threads."""
    logging.disable(logging.WARNING)
    waveforms = make_waveforms(NUM_WAVEFORMS)
    model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, seed=1234).eval()
    ours = our_ways(model)
    with tempfile.TemporaryDirectory() as name:
        for count in threads:
            torch.set_num_threads(count)
            measure(ours | onnx_ways(model, Path(name), count), waveforms, turns, count)


@torch.inference_mode()
def measure(ways: dict[str, Scorer], waveforms: Tensor, turns: int, threads: int) -> None:
    """Prints for each way the median, 99th percentile and least of its times, and how far it moves the scores."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    scores = {
        name: torch.cat([score(one[None])[:, 1] for one in waveforms]).double()
        for name, score in ways.items()
    }
    for turn in range(WARM_UP + turns):
        for name, score in ways.items():
            start_s = time.perf_counter()
            score(waveforms[turn % len(waveforms)][None])
            if turn >= WARM_UP:
                taken[name].append(1000 * (time.perf_counter() - start_s))
    print(f"\n{threads} threads, {turns} turns\n")
    print(
        "| way | median ms | 99 % ms | least ms | of fp32, packed | largest shift |\n|---|---|---|---|---|---|"
    )
    reference = np.median(taken["fp32, packed"])
    for name, times in taken.items():
        median, high = np.quantile(times, [0.5, 0.99])
        shift = float((scores[name] - scores["fp32"]).abs().max())
        print(
            f"| {name} | {median:.0f} | {high:.0f} | {min(times):.0f} | {median / reference:.2f} | {shift:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
