"""A real `mlflow models serve` on loopback, for benchmarks and tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_S = 240
STOP_S = 30


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

    port: int
    process_id: int
    """Of `mlflow models serve`; the process that serves is a child of it, or the same."""


@contextmanager
def running_server(
    bundle: Path, directory: Path, env_manager: str = "local", **variables: str
) -> Iterator[RunningServer]:
    """Serves a bundle for the duration of a `with` block, from a directory that is not the project.

    Args:
        bundle: What `save_served_model` wrote.
        directory: Where to start it; its log is written there.
        env_manager: `local` or `uv`.
        variables: Of its environment, beside those of this process.

    Raises:
        RuntimeError: it does not start; the message ends with its log.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # Last the interpreter behind this environment, of which uv makes another one.
    base = Path(sys.base_prefix) / "bin"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(base)])
    options = f"--env-manager {env_manager} -h 127.0.0.1 -p {port}".split()
    log_path = directory / "log.txt"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            ["mlflow", "models", "serve", "-m", str(bundle), *options],
            cwd=directory,
            env={**os.environ, "PATH": path, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(port, process, log_path)
        yield RunningServer(port, process.pid)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and what it started: asked to, then forced to; it may have ended by itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    # The server, or a child that outlived it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
