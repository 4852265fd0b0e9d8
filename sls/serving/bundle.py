"""The served model as a bundle: code, weights, calibration, signature, an example and the packages that it needs."""

import base64
import hashlib
import io
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sls.config import PROJECT_ROOT
from sls.files import file_digest, scratch_directory
from sls.serving.contract import AUDIO, make_signature

# What the served model imports, and no more; a test holds this list to the imports.
SERVING_PACKAGES = (
    "mlflow",
    "torch",
    "torchaudio",
    "numpy",
    "pandas",
    "safetensors",
    "soundfile",
    "av",
    "soxr",
    "pyarrow",
)

EXAMPLE_RATE_HZ = 8_000
EXAMPLE_DURATION_S = 0.5
EXAMPLE_PITCH_HZ = 120
NUM_HARMONICS = 10


def save_served_model(path: Path, checkpoint: Path, calibration: Path | None = None) -> None:
    """Writes the bundle to a directory that is not there yet.

    It holds all that serving needs but the packages: it can be copied to any machine.
    """
    artifacts = {"checkpoint": str(checkpoint)}
    with scratch_directory() as directory:
        code = directory / "sls"
        shutil.copytree(PROJECT_ROOT / "sls", code, ignore=shutil.ignore_patterns("__pycache__"))
        if calibration is not None:
            # Its name in the bundle says what it is, whatever the user's file is called.
            artifacts["calibration"] = str(shutil.copyfile(calibration, directory / "calibration.json"))
        constraints = directory / "constraints.txt"
        constraints.write_text("\n".join(serving_constraints()), encoding="utf-8")
        mlflow.pyfunc.save_model(
            path=str(path),
            # The copy, since the bundle notes this path.
            python_model=str(code / "serving" / "pyfunc.py"),
            artifacts=artifacts,
            code_paths=[str(code)],
            signature=make_signature(calibration is not None),
            input_example=pd.DataFrame({AUDIO: [example_recording()]}),
            pip_requirements=[*map(_pin, SERVING_PACKAGES), f"-c {constraints}"],
        )


def served_digest(checkpoint: str, calibration: Path | None = None) -> str:
    """Returns a digest of all that a bundle is made of: the same one, the same bundle."""
    parts = [checkpoint, file_digest(calibration) if calibration else "", *serving_constraints()]
    sources = sorted(path for path in (PROJECT_ROOT / "sls").rglob("*") if path.suffix in (".py", ".html"))
    parts += [f"{path.relative_to(PROJECT_ROOT)} {file_digest(path)}" for path in sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def example_recording() -> str:
    """Returns half a second of a made vowel, as a WAV file in base64: small, and nobody's voice."""
    time_s = np.arange(int(EXAMPLE_DURATION_S * EXAMPLE_RATE_HZ)) / EXAMPLE_RATE_HZ
    tones = [np.sin(2 * np.pi * EXAMPLE_PITCH_HZ * n * time_s) / n for n in range(1, NUM_HARMONICS + 1)]
    tone = np.sum(tones, axis=0)
    samples = (0.5 * np.iinfo(np.int16).max * tone / np.abs(tone).max()).astype(np.int16)
    content = io.BytesIO()
    soundfile.write(content, samples, EXAMPLE_RATE_HZ, format="WAV")
    return base64.b64encode(content.getvalue()).decode("ascii")


def serving_constraints() -> list[str]:
    """Returns the pins of `SERVING_PACKAGES` and of all that they bring along, as they are installed here.

    Without them an environment that is built next year would hold that year's packages.
    """
    pins: dict[str, str] = {}
    waiting = [Requirement(name) for name in SERVING_PACKAGES]
    asked: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in asked:
                continue
            asked.add((name, extra))
            try:
                pins[name] = _pin(name)
            except PackageNotFoundError:
                continue  # conda, for one, brings the libraries of CUDA under names of its own
            brought = map(Requirement, requires(name) or ())
            waiting += [one for one in brought if not one.marker or one.marker.evaluate({"extra": extra})]
    return sorted(pins.values())


def _pin(name: str) -> str:
    """Pins a package without the local part of its version, such as +cu128, which the public registry lacks."""
    return f"{name}=={Version(version(name)).public}"
