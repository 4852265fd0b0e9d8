"""What a run was made with: code, packages and machine."""

import getpass
import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from sls.config import PROJECT_ROOT

# The packages whose versions can move a number.
RECORDED_PACKAGES = (
    "torch",
    "torchaudio",
    "numpy",
    "scipy",
    "soundfile",
    "av",
    "soxr",
    "mlflow",
    "accelerate",
    "safetensors",
    "fairseq-fixed",
)


def code_tags() -> dict[str, str]:
    """Returns who runs the code, its git commit, and whether the tree held changes that are not committed.

    MLflow records user and commit only when it launches the run, and never the state of the tree.
    """
    tags = {}
    with suppress(KeyError, OSError):  # a user without a name, as in a container
        tags["mlflow.user"] = getpass.getuser()
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {**tags, "git.commit": "unknown (not a git checkout)", "git.dirty": "unknown"}
    is_dirty = bool(_git("status", "--porcelain"))
    return {
        **tags,
        "mlflow.source.git.commit": commit,  # the column Version of its UI
        "git.commit": commit,
        "git.dirty": str(is_dirty).lower(),
    }


def package_versions() -> dict[str, str]:
    """Returns the version of Python and of each recorded package that is installed."""
    versions = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, str | int | float]:
    """Returns what the machine is: processor, cores, memory, and the GPUs as PyTorch sees them.

    Without neural work PyTorch is not loaded, for a quick start, and GPUs, which do nothing then, are not named.
    """
    machine: dict[str, str | int | float] = {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        machine["gpus"] = ", ".join(gpus) or "none"
    return machine


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
