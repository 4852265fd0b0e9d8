"""Measures the peak memory of the weighted sum over layers: accumulated, against stacked as the paper writes it.

    OMP_NUM_THREADS=2 python -m benchmarks.model_memory --batch-size 4

Each row is a process of its own: random weights of the given shape, one batch of noise, and the most memory that
the process held beyond what it held with the model built.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import torch
from torch import Tensor

from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure, Explanation, SlsClassifier

WAYS = ("accumulated", "stacked")
MODES = ("scoring", "training")


class StackedClassifier(SlsClassifier):
    """The same formula on one tensor of all layers, `(batch, layers, frames, dim)`."""

    def forward(self, layer_outputs: Iterable[Tensor]) -> Explanation:
        """Weighs all layers at once."""
        stacked = torch.stack(list(layer_outputs), dim=1)
        weights = torch.sigmoid(self.fc0(stacked.mean(dim=2)))
        return Explanation(self.classify((stacked * weights.unsqueeze(-1)).sum(dim=1)), weights.squeeze(-1))


def run(shape: str, batch_size: int, way: str, mode: str) -> None:
    """Runs one batch, and prints the extra peak memory in MiB and the score of the first utterance."""
    model = build_countermeasure(f"random:{shape}", 64_600, seed=1)
    if way == "stacked":
        model.classifier.__class__ = StackedClassifier
    waveforms = torch.randn(batch_size, model.num_samples, generator=torch.Generator().manual_seed(1)) * 0.05
    before = _peak_mib()
    log_probs = _train(model, waveforms) if mode == "training" else _score(model, waveforms)
    print(f"{_peak_mib() - before:.0f} {log_probs[0, 1].item():.6f}")


@click.command()
@click.option("--shape", default="300m", show_default=True)
@click.option("--batch-size", default=4, show_default=True)
@click.option("--child", hidden=True, nargs=2, type=str)
def main(shape: str, batch_size: int, child: tuple[str, str] | None) -> None:
    """Prints a table: one row for each mode, with both ways side by side."""
    if child:
        run(shape, batch_size, *child)
        return
    print(f"{shape}, batch of {batch_size}: MiB beyond the model")
    print(f"{'mode':<10}{'accumulated':>12}{'stacked':>9}{'saved':>7}   score")
    for mode in MODES:
        rows = [_run_child(shape, batch_size, way, mode).split() for way in WAYS]
        (accumulated, score), (stacked, other) = rows
        saved = float(stacked) - float(accumulated)
        print(f"{mode:<10}{accumulated:>12}{stacked:>9}{saved:>7.0f}   {score} and {other}")


def _score(model: Countermeasure, waveforms: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(waveforms)


def _train(model: Countermeasure, waveforms: Tensor) -> Tensor:
    log_probs = model.train()(waveforms)
    log_probs[:, 1].mean().backward()
    return log_probs.detach()


def _run_child(shape: str, batch_size: int, way: str, mode: str) -> str:
    command = [sys.executable, "-m", "benchmarks.model_memory", "--shape", shape]
    command += ["--batch-size", str(batch_size), "--child", way, mode]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _peak_mib() -> float:
    """The most memory that this process has held, mapped pages of files included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024  # in KiB there


if __name__ == "__main__":
    main()
