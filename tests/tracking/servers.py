"""A real `mlflow models serve`, and requests to it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 240


@contextmanager
def running_server(
    bundle: Path, directory: Path, env_manager: str = "local", **variables: str
) -> Iterator[int]:
    """A real server, on loopback, started elsewhere than in the project; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables}
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        str(bundle),
        "--env-manager",
        env_manager,
        "-h",
        "127.0.0.1",
    ]
    with (directory / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "-p", str(number)],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_healthy(number, process, directory / "log.txt")
        yield number
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def wait_until_healthy(number: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{number}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


def post(port: int, body: object) -> tuple[int, str]:
    return send(port, json.dumps(body).encode(), "application/json")


def send(port: int, body: bytes, content_type: str | None) -> tuple[int, str]:
    # Of http.client, since urllib adds a type of its own.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request("POST", "/invocations", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
