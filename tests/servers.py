"""Real servers for tests: requests to `mlflow models serve`, an `mlflow server` to record at, a gateway before it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


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


class Server:
    """A tracking server on loopback, with artifacts by its own hands."""

    def __init__(self, directory: Path, database: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.directory, self.database = directory, database
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **variables: str) -> None:
        """Starts it and waits until it listens; variables are added to its environment."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.directory / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **variables}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self.directory / "server.log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


LOGIN = b"<html><body>Please log in</body></html>"
GATEWAY_ANSWERS: dict[str, tuple[int, bytes]] = {
    "500": (500, b"<html>oops</html>"),
    "503": (503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}'),
    "429": (429, b"slow down"),
    "html400": (400, b"<html>400 Bad Request</html>"),
    "html404": (404, b"<html>404 Not Found</html>"),
    "json404": (404, b'{"message": "no Route matched with those values"}'),
    "login": (200, LOGIN),
    "redirected": (302, b""),
    "empty": (200, b""),
    "ok": (200, b"200 OK"),
    "other_json": (200, b'{"status": "maintenance"}'),
    "half_json": (200, b'{"run": {"in'),
}
"""What a gateway says by itself."""
GATEWAY_FAULTS = (*GATEWAY_ANSWERS, "drop", "drop_after", "half", "hang")


class Gateway:
    """What stands between a client and a tracking server: it hands everything on, unless it is out of order."""

    def __init__(self, upstream: int, hang_s: float = 3.0) -> None:
        """Listens on loopback, in front of a port; a call that hangs is answered after some seconds."""
        self.fault, self.first_fault, self.end_of_faults, self.num_requests = "", 0, 0, 0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_wrong = gateway.first_fault <= gateway.num_requests < gateway.end_of_faults
                gateway.num_requests += 1
                fault = gateway.fault if is_wrong else ""
                if fault in GATEWAY_ANSWERS and self.path != "/login":
                    self.say(*GATEWAY_ANSWERS[fault])
                elif self.path == "/login":
                    self.say(200, LOGIN)
                elif fault == "drop":
                    self.close_connection = True
                    self.connection.close()
                else:
                    if fault == "hang":
                        time.sleep(hang_s)
                    self.hand_on(body, fault)

            def hand_on(self, body: bytes, fault: str) -> None:
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS
                }
                connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if fault == "drop_after":
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_HEADERS:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if fault == "half" else content)
                self.close_connection = self.close_connection or fault == "half"

            def say(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if content[:1] == b"{" else "text/html")
                self.send_header("Content-Length", str(len(content)))
                if status == 302:
                    self.send_header("Location", "/login")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went away
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def disturb(self, fault: str, num_requests: int, after: int = 0) -> None:
        """Answers so many requests wrongly, from now on, or after some more."""
        self.fault, self.first_fault = fault, self.num_requests + after
        self.end_of_faults = self.first_fault + num_requests

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


HOP_HEADERS = ("host", "connection", "accept-encoding", "transfer-encoding", "content-length")
