"""The server that benchmarks and tests start: what happens when it dies, and when it hangs."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import model_server
from benchmarks.model_server import running_server

HANGING = """
import http.server, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `mlflow` is what a test writes to `tmp_path / "mlflow"`."""
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def write_program(path: Path, lines: str) -> None:
    path.write_text(f"#!{sys.executable}\n{lines}")
    path.chmod(0o755)


def test_a_server_that_dies_is_reported_with_its_log(tmp_path: Path, path: str) -> None:
    write_program(tmp_path / "mlflow", "raise SystemExit('no such model')")
    with (
        pytest.raises(RuntimeError, match=": no such model"),
        running_server(tmp_path / "bundle", tmp_path, PATH=path),
    ):
        pytest.fail("it runs")


def test_a_server_that_does_not_end_when_asked_is_ended(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_server, "STOP_S", 0.2)
    program = f"import sys\nPORT = int(sys.argv[-1])\n{HANGING}"
    write_program(tmp_path / "mlflow", program)
    with running_server(tmp_path / "bundle", tmp_path, PATH=path) as server:
        assert psutil.pid_exists(server.process_id)
    assert not psutil.pid_exists(server.process_id)
