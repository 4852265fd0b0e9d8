"""What tests of long scoring share: a tiny countermeasure, recordings, and the door in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from sls.config import PROJECT_ROOT
from sls.models.checkpoints import CheckpointInfo, build_countermeasure, save_checkpoint

NUM_SAMPLES = 8_000


def make_checkpoint(path: Path, seed: int = 1) -> Path:
    """A tiny countermeasure of random weights."""
    model = build_countermeasure("random:tiny", NUM_SAMPLES, seed)
    info = CheckpointInfo(encoder=model.encoder, num_samples=NUM_SAMPLES, sample_rate_hz=16_000)
    return save_checkpoint(path, model, info)


def make_recordings(directory: Path, count: int) -> Path:
    """Noises of different levels, half a second to a second long."""
    directory.mkdir()
    rng = np.random.default_rng(5)
    for index in range(count):
        noise = rng.normal(0, 10 ** rng.uniform(-3, -1), rng.integers(8_000, 16_000))
        soundfile.write(directory / f"r{index:04d}.wav", noise.astype(np.float32), 16_000, subtype="FLOAT")
    return directory


def score_command(model: Path, audio: Path, output: Path, *more: str) -> list[str]:
    """The arguments of the score door."""
    places = ["--model", str(model), "--audio_dir", str(audio), "--output", str(output)]
    return [*places, "--device", "cpu", "--num_workers", "0", "--eval_batch_size", "4", *more]


def start_door(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts a door as a user does, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, *arguments],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
