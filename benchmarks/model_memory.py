"""Measures the peak memory of the weighted sum over layers: accumulated, against stacked as the paper writes it.

    OMP_NUM_THREADS=2 python -m benchmarks.model_memory --batch-size 4

Random weights of the given shape, one batch of noise. What is counted is what PyTorch's allocator gave out at the
most, beyond the model; the resident size of the process differs by hundreds of MiB from run to run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure, Explanation, SlsClassifier

MIB = 2**20


class StackedClassifier(SlsClassifier):
    """The same formula on one tensor of all layers, `(batch, layers, frames, dim)`."""

    def forward(self, layer_outputs: Iterable[Tensor]) -> Explanation:
        """Weighs all layers at once."""
        stacked = torch.stack(list(layer_outputs), dim=1)
        weights = torch.sigmoid(nn.functional.linear(stacked.mean(dim=2), *self.fc0.parameters()))
        return Explanation(self.classify((stacked * weights.unsqueeze(-1)).sum(dim=1)), weights.squeeze(-1))


def score(model: Countermeasure, waveforms: Tensor) -> Tensor:
    """Scores a batch, without gradients."""
    with torch.inference_mode():
        return model.eval()(waveforms)


def train(model: Countermeasure, waveforms: Tensor) -> Tensor:
    """Runs a batch forward and backward."""
    log_probs = model.train()(waveforms)
    log_probs[:, 1].mean().backward()
    return log_probs.detach()


def measure_peak_mib(run: Callable[[], Tensor]) -> tuple[float, float]:
    """Returns the most that was allocated at once, beyond what was before, and the score of the first utterance."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        log_probs = run()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    memory = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda event: event["ts"])
    totals = [event["args"]["Total Allocated"] for event in memory]
    before = totals[0] - memory[0]["args"]["Bytes"]
    return (max(totals) - before) / MIB, log_probs[0, 1].item()


@click.command()
@click.option("--shape", default="300m", show_default=True)
@click.option("--batch-size", default=4, show_default=True)
def main(shape: str, batch_size: int) -> None:
    """Prints a table: one row for each mode, with both ways side by side."""
    model = build_countermeasure(f"random:{shape}", 64_600, seed=1)
    waveforms = torch.randn(batch_size, model.num_samples, generator=torch.Generator().manual_seed(1)) * 0.05
    print(f"{shape}, batch of {batch_size}: MiB beyond the model")
    print(f"{'mode':<10}{'accumulated':>12}{'stacked':>9}{'saved':>7}   score")
    for name, run in (("scoring", score), ("training", train)):
        peaks, scores = [], []
        for classifier in (SlsClassifier, StackedClassifier):
            model.classifier.__class__ = classifier
            peak, first_score = measure_peak_mib(lambda run=run: run(model, waveforms))
            peaks.append(peak)
            scores.append(first_score)
            model.zero_grad(set_to_none=True)
        saved = peaks[1] - peaks[0]
        print(
            f"{name:<10}{peaks[0]:>12.0f}{peaks[1]:>9.0f}{saved:>7.0f}   {scores[0]:.6f} and {scores[1]:.6f}"
        )


if __name__ == "__main__":
    main()
