"""A gateway before a tracking server that fails as gateways do, and a clock that jumps: for `benchmarks.kills`."""

from __future__ import annotations

import http.client
import http.server
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

SLOW_S = 2.0
ANSWER_S = 60
_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "host", "accept-encoding", "keep-alive")
_HTML, _JSON = "text/html", "application/json"

ANSWERS = {
    "400 html": (400, _HTML, b"<html>malformed request</html>"),
    "404 html": (404, _HTML, b"<html>no upstream of this name</html>"),
    "403 html": (403, _HTML, b"<html>blocked by policy</html>"),
    "429": (429, "text/plain", b"too many requests"),
    "500 html": (500, _HTML, b"<html>internal error</html>"),
    "502 empty": (502, _HTML, b""),
    "503 json": (503, _JSON, b'{"message": "temporarily unavailable"}'),
    "200 html": (200, _HTML, b"<html>please log in</html>"),
    "200 empty": (200, _HTML, b""),
    "200 other json": (200, _JSON, b'{"status": "ok"}'),
}
"""Those that the gateway gives itself: the server sees nothing of the request."""
TROUBLES = (*ANSWERS, "closed before", "closed after", "half an answer", "slow")
STEADY = "steady"


class Gateway(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Passes requests on to a server on loopback, as long as `mode` is `STEADY`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, server_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.server_port_behind = server_port
        self.mode = STEADY
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed leaves its connection: nothing to say of that."""


class _Passage(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mode = self.server.mode
        if mode in ANSWERS:
            status, kind, content = ANSWERS[mode]
            self._answer(status, [("Content-Type", kind)], content)
            return
        if mode == "closed before":
            self._close()
            return
        if mode == "slow":
            time.sleep(SLOW_S)
        status, headers, content = self._ask(body)
        if mode == "closed after":
            self._close()
        elif mode == "half an answer":
            self._answer(status, headers, content, num_sent=len(content) // 2)
            self._close()
        else:
            self._answer(status, headers, content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port_behind, timeout=ANSWER_S)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
            return answer.status, kept, answer.read()
        except OSError:
            return 502, [("Content-Type", _HTML)], b"<html>bad gateway</html>"
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, num_sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:num_sent])

    def _close(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


class ShiftingClock:
    """The time of day of processes that are started with `variables`; without a C compiler it never jumps."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "shift"
        self.jump(0)
        compiler = shutil.which("cc")
        self.variables: dict[str, str] = {}
        if compiler:
            library = directory / "shifting_clock.so"
            source = Path(__file__).with_suffix("").with_name("shifting_clock.c")
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
            self.variables = {"LD_PRELOAD": str(library), "SHIFTED_BY": str(self._file)}

    def jump(self, shift_s: int) -> None:
        """Puts the clock so many seconds from the true time."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # in place, since it is mapped
            file.write(struct.pack("=q", shift_s))


def every(waits: Callable[[], float], act: Callable[[], None], until: threading.Event) -> threading.Thread:
    """Does something again and again, after waits in seconds, until an event is set."""

    def repeat() -> None:
        while not until.wait(waits()):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    return thread
