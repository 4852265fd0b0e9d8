"""Shows a page beside a served countermeasure: drop a recording, see the verdict, the curve and the layer weights.

    python examples/page.py http://127.0.0.1:5001          # then open http://127.0.0.1:5002

It listens on this machine alone and passes what the page asks on to the service, with nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).with_name("page.html")
MAX_BYTES = 64 * 2**20
TIMEOUT_S = 120
# The page loads nothing from elsewhere and speaks to nobody else.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Handler(BaseHTTPRequestHandler):
    """Answers with the page, and with what the service says."""

    service = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page."""
        if self.path != "/":
            self._answer(404, b'{"message": "no such page"}')
            return
        self._answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """A question of the page; a page of another site cannot send this type of content unasked."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/ask" or self.headers.get("Content-Type") != "application/json":
            self._refuse(404, "no such question")
        elif not length.isdigit() or int(length) > MAX_BYTES:
            self._refuse(413, f"found more than {MAX_BYTES} bytes or no length, expected a shorter recording")
        else:
            self._answer(*self._ask(self.rfile.read(int(length))))

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"{self.service}/invocations", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 502, json.dumps({"message": f"the service at {self.service} does not answer"}).encode()

    def _refuse(self, status: int, sentence: str) -> None:
        # What was sent is not read, so the connection cannot be used again.
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


def main() -> None:
    """Serves the page until it is stopped."""
    parser = argparse.ArgumentParser(description="A page beside a served countermeasure.")
    parser.add_argument("service", help="address of mlflow models serve, such as http://127.0.0.1:5001")
    parser.add_argument("--port", type=int, default=5002)
    options = parser.parse_args()
    Handler.service = options.service.rstrip("/")
    with ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
        print(f"Open http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
