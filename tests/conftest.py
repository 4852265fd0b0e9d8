"""What all tests share."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server

# Before torch is imported, and for the processes that tests start: several tests share the cores, and several threads
# do not round alike from one process to the next.
os.environ["OMP_NUM_THREADS"] = "1"
# Before the doors make their console: a narrower terminal would wrap or cut what they print.
os.environ["COLUMNS"] = "80"

DEFAULT_REFERENCE_DIR = Path(__file__).resolve().parents[2] / "shared" / "reference"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch sees no GPU")  # CI has none; `benchmarks.gpu` runs these tests where one is


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files with slow tests first, so that no process is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Real data with known answers, not part of the project; SLS_REFERENCE_DIR says where it lies."""
    path = Path(os.environ.get("SLS_REFERENCE_DIR") or DEFAULT_REFERENCE_DIR)
    if not path.is_dir():
        # The project must pass its tests without that data; the summary names what was skipped.
        pytest.skip(f"no reference data at {path} (set SLS_REFERENCE_DIR)")
    return path


@pytest.fixture(scope="session")
def program() -> Callable[..., str]:
    """Finds a program that a test drives, and tries it where arguments are given.

    Where it is missing or fails the test is skipped, or fails with SLS_REQUIRE_PROGRAMS=1.
    """

    def find(name: str, *trial: str) -> str:
        path, missing = shutil.which(name), ""
        if path is None:
            missing = f"no program {name} on the PATH"
        elif trial and (tried := subprocess.run([path, *trial], capture_output=True, text=True)).returncode:
            missing = f"{name} {trial[0]} fails here: {' '.join(tried.stderr.split())}"
        if path is None or missing:
            if os.environ.get("SLS_REQUIRE_PROGRAMS") == "1":
                pytest.fail(missing)
            pytest.skip(missing)  # a developer's machine need not have it; CI fails above instead
        return path

    return find


@pytest.fixture(scope="module")
def browser(program: Callable[..., str]) -> Iterator[Any]:
    """A headless browser that the tests of a module share."""
    from benchmarks.compare_view import headless_browser

    program("chromium")
    program("chromedriver")
    with headless_browser(900, 900) as driver:
        yield driver


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns what the first of the test processes makes under a new path, for all of them to read."""
    from sls.processes import hold_lock

    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with hold_lock(path, waits=True):
        if not path.exists():
            made = path.with_name(f"{name}.made")
            make(made)
            made.rename(path)
    return path


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo corpus of a few recordings, as a data_root."""
    from sls.data.demo_corpus import make_demo_corpus

    return make_once(tmp_path_factory, "demo", lambda path: make_demo_corpus(path, scale=0.05, num_workers=2))


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its tables, made once: that takes seconds."""
    from mlflow import MlflowClient

    return make_once(
        tmp_path_factory,
        "empty.db",
        lambda path: MlflowClient(f"sqlite:///{path}").search_experiments(),
    )


@pytest.fixture
def store(_empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh tracking store, in use for one test; returns its database."""
    return _use_store(_empty_store, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def shared_store(_empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tracking store that the tests of a module share; returns its database."""
    with pytest.MonkeyPatch.context() as patches:
        yield _use_store(_empty_store, tmp_path_factory.mktemp("store"), patches)


def _use_store(empty: Path, directory: Path, patches: pytest.MonkeyPatch) -> Path:
    import mlflow

    path = directory / "mlflow.db"
    shutil.copyfile(empty, path)
    # First, since forgetting an address that was set also forgets the variable.
    mlflow.set_tracking_uri(None)
    patches.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    patches.setenv("SLS_JOURNAL_DIR", str(directory / "journal"))
    # A busy machine may not send all of a training within the seconds that a signal leaves.
    patches.setattr("sls.tracking.active_run.SIGNAL_LIMIT_S", 60.0)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "SLS_DATA_ROOT"):
        patches.delenv(name, raising=False)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tracking server with a store of its own, for the tests of a module."""
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory, directory / "mlflow.db")
    server.start()
    yield server
    server.kill()
