"""Shows a page beside a served countermeasure: drop a recording, see the verdict, the curve and the layer weights.

    python examples/page.py http://127.0.0.1:5001          # then open http://127.0.0.1:5002

It listens on this machine alone and passes what the page asks on to the service, with nothing but Python. It never
uses a proxy, so a recording goes to the service and to nobody else.
"""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

PAGE = Path(__file__).with_name("page.html")
MAX_BYTES = 64 * 2**20
"""Of a question: a recording of three quarters of that, in base64. The page knows that number too."""
MAX_DROPPED_BYTES = 2**30
"""Of a question that is refused; a browser shows the refusal only once it has sent all."""
BLOCK_BYTES = 2**16
TIMEOUT_S = 120
# The page loads nothing from elsewhere and speaks to nobody else; the dropped recording tells it how long it lasts.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "media-src blob:"
)
HOSTS = ("127.0.0.1", "localhost")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Handler(BaseHTTPRequestHandler):
    """Answers with the page, and with what the service says."""

    service = ""
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S
    """Seconds that a browser may be silent."""

    def do_GET(self) -> None:
        """The page."""
        if not self._is_asked_by_its_name():
            self._refuse(403, "no such host")
        elif self.path != "/":
            self._refuse(404, "no such page")
        else:
            self._answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """A question of the page; a page of another site cannot send this type of content unasked."""
        if not self._is_asked_by_its_name():
            self._refuse(403, "no such host")
        elif self.path != "/ask" or self.headers.get("Content-Type") != "application/json":
            self._refuse(404, "no such question")
        elif not 0 <= self._length() <= MAX_BYTES:
            self._refuse(413, f"found more than {MAX_BYTES} bytes or no length, expected a shorter recording")
        else:
            self._answer(*self._ask(self.rfile.read(self._length())))

    def _is_asked_by_its_name(self) -> bool:
        """Whether the browser means this machine; a name of another site may have come to lead here."""
        host, _, port = self.headers.get("Host", "").partition(":")
        return host in HOSTS and (port or "80") == str(self.server.server_port)

    def _length(self) -> int:
        """Bytes of the question; -1 where it does not tell."""
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else -1

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"{self.service}/invocations", body, {"Content-Type": "application/json"}
        )
        try:
            try:
                answer = OPENER.open(request, timeout=TIMEOUT_S)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 502, json.dumps({"message": f"the service at {self.service} does not answer"}).encode()

    def _refuse(self, status: int, sentence: str) -> None:
        left = min(self._length(), MAX_DROPPED_BYTES)
        while left > 0 and (block := self.rfile.read(min(left, BLOCK_BYTES))):
            left -= len(block)
        # Something may be left unread, so the connection cannot be used again.
        self.close_connection = True
        self._answer(status, json.dumps({"message": sentence}).encode())

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of each request."""


def is_address(text: str) -> bool:
    """Whether a text has a scheme, a host and, where it has one, a port in numbers."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def main() -> None:
    """Serves the page until it is stopped."""
    parser = argparse.ArgumentParser(description="A page beside a served countermeasure.")
    parser.add_argument("service", help="address of mlflow models serve, such as http://127.0.0.1:5001")
    parser.add_argument("--port", type=int, default=5002)
    options = parser.parse_args()
    if not is_address(options.service):
        parser.exit(
            2, f"service: found {options.service!r}, expected an address such as http://127.0.0.1:5001\n"
        )
    Handler.service = options.service.rstrip("/")
    with ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
        print(f"Open http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
