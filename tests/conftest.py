"""What all tests share."""

import os
from pathlib import Path

import pytest

DEFAULT_REFERENCE_DIR = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Real data with known answers, not part of the project; SLS_REFERENCE_DIR says where it lies."""
    path = Path(os.environ.get("SLS_REFERENCE_DIR") or DEFAULT_REFERENCE_DIR)
    if not path.is_dir():
        pytest.skip(f"no reference data at {path} (set SLS_REFERENCE_DIR)")
    return path


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Keeps the suite from taking a whole shared machine."""
    import torch

    torch.set_num_threads(2)
