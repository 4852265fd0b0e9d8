"""What the tests of conditions share: something with the band and the level of speech, and a folder of recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Two seconds of noise from 200 to 3,000 Hz under syllables, peak 0.5, read-only."""
    rng = np.random.default_rng(7)
    noise = sosfilt(butter(4, (200, 3_000), "bandpass", fs=16_000, output="sos"), rng.standard_normal(32_000))
    waveform = noise * (0.3 + np.sin(np.pi * 4 * np.arange(32_000) / 16_000) ** 2)
    waveform = (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)
    waveform.setflags(write=False)
    return waveform


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two recordings that may be noises or impulse responses: one of 3 s, one of 0.1 s at 8 kHz."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(3)
    decay = np.exp(-np.arange(48_000) / 8_000)
    soundfile.write(folder / "long.wav", 0.3 * rng.standard_normal(48_000) * decay, 16_000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", 0.1 * rng.standard_normal(800), 8_000, subtype="FLOAT")
    return folder
