"""Measures how far each way of running the countermeasure moves its scores, and how long it takes.

    OMP_NUM_THREADS=2 python -m benchmarks.model_precision --model random:300m --utterances 8
    OMP_NUM_THREADS=2 python -m benchmarks.model_precision --model FILE.pth --xlsr XLSR.pt --waveforms FILE.npz

The reference is fp64. A score is log P(bona fide); the differences are of scores, over all utterances. "order"
counts the pairs of utterances that change places, because that is what an EER sees.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from sls.config import NUM_SAMPLES
from sls.models.checkpoints import build_countermeasure, load_checkpoint
from sls.models.countermeasure import Countermeasure

BATCH_SIZE = 4
Scorer = Callable[[Tensor], Tensor]


def make_waveforms(count: int) -> Tensor:
    """Returns noises of many levels and colours. Shape: `(count, NUM_SAMPLES)`."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(count, NUM_SAMPLES, generator=generator)
    smoothing = torch.rand(count, 1, generator=generator) * 0.95
    for i in range(1, 12):
        noise[:, i:] += smoothing**i * noise[:, :-i].clone()
    levels = 10 ** (-0.5 - 2 * torch.rand(count, 1, generator=generator))
    return noise / noise.abs().amax(dim=1, keepdim=True) * levels


def scorers(model: Countermeasure, device: str, with_compile: bool) -> dict[str, Scorer]:
    """Returns the ways to run the model, fp32 first."""
    ways: dict[str, Scorer] = {"fp32": lambda x: model(x)}
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        ways[f"{name} autocast"] = _autocast(model, device, dtype)
        half = copy.deepcopy(model).to(dtype)
        ways[f"{name} weights"] = lambda x, half=half, dtype=dtype: half(x.to(dtype))
    if with_compile:
        compiled = torch.compile(model)
        ways["compiled fp32"] = lambda x: compiled(x)
        ways["compiled bf16 autocast"] = _autocast(compiled, device, torch.bfloat16)
    return ways


@click.command()
@click.option(
    "--model", "source", default="random:300m", show_default=True, help="random:NAME, or a checkpoint."
)
@click.option("--xlsr", help="The XLS-R file of a published checkpoint.")
@click.option(
    "--waveforms", type=click.Path(path_type=Path), help="An .npz file with `waveforms`; else noise."
)
@click.option("--utterances", default=8, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--compile/--no-compile", "with_compile", default=True, show_default=True)
def main(
    source: str, xlsr: str | None, waveforms: Path | None, utterances: int, device: str, with_compile: bool
) -> None:
    """Prints a table: one row for each way."""
    inputs = torch.from_numpy(np.load(waveforms)["waveforms"]) if waveforms else make_waveforms(utterances)
    if source.startswith("random:"):
        model = build_countermeasure(source, NUM_SAMPLES, seed=1234).eval()
    else:
        model = load_checkpoint(source, xlsr=xlsr).model
    reference, _ = _score(copy.deepcopy(model).double(), inputs.double(), "cpu")
    print(
        f"{source}, {len(inputs)} utterances, {device}; scores {reference.min():.4f} to {reference.max():.4f}"
    )
    print(f"{'way':<24}{'largest':>10}{'mean':>10}{'order':>7}{'time':>7}")
    first = None
    for name, scorer in scorers(model.to(device), device, with_compile).items():
        scores, seconds = _score(scorer, inputs, device)
        first = first or seconds
        difference = (scores.double() - reference).abs()
        print(
            f"{name:<24}{difference.max():>10.1e}{difference.mean():>10.1e}"
            f"{_count_swaps(scores, reference):>7}{seconds / first:>7.2f}",
            flush=True,
        )


def _autocast(model: Scorer, device: str, dtype: torch.dtype) -> Scorer:
    def score(x: Tensor) -> Tensor:
        with torch.autocast(device.partition(":")[0], dtype):
            return model(x)

    return score


def _score(scorer: Scorer, inputs: Tensor, device: str) -> tuple[Tensor, float]:
    """Returns the scores `(utterances,)` and the seconds of the second of two passes, which compiles nothing."""
    seconds = 0.0
    with torch.no_grad():
        for _ in range(2):
            start = time.perf_counter()
            batches = [scorer(batch.to(device))[:, 1].cpu() for batch in inputs.split(BATCH_SIZE)]
            seconds = time.perf_counter() - start
    return torch.cat(batches), seconds


def _count_swaps(scores: Tensor, reference: Tensor) -> int:
    signs = [torch.sign(s[:, None] - s[None, :]) for s in (scores.double(), reference)]
    return int(((signs[0] * signs[1]) < 0).sum()) // 2


if __name__ == "__main__":
    main()
