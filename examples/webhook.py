"""Redeploys when the alias `champion` moves: a receiver for the webhooks of a tracking server, with Python alone.

    WEBHOOK_SECRET=... python examples/webhook.py systemctl restart countermeasure

runs the command once for each move, one after the other, with the version in `CHAMPION_VERSION`. It listens on this
machine, port 5003 (`--port`, before the command); docs/server.md shows how the server is told to call it. What is not
signed with the secret is refused, and what is sent again, or names the version that was last deployed, does nothing.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import queue
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL, ALIAS = "xlsr-sls", "champion"
MAX_BYTES = 2**16
MAX_AGE_S = 300
"""Of an event, by the clocks of both machines."""


def sign(secret: str, delivery: str, sent_at: str, body: bytes) -> str:
    """Returns the signature of an event, as MLflow makes it: HMAC-SHA256 of its id, time and text."""
    text = b".".join((delivery.encode(), sent_at.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), text, "sha256")).decode()


class Receiver:
    """Tells which events are moves of the champion, and hands each on once."""

    def __init__(self, secret: str) -> None:
        self.secret, self.moves = secret, queue.Queue[str]()
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def receive(self, delivery: str, sent_at: str, signature: str, body: bytes) -> tuple[int, str]:
        """Returns the status and the sentence with which an event is answered."""
        if not hmac.compare_digest(sign(self.secret, delivery, sent_at, body).encode(), signature.encode()):
            return 401, "not signed with this secret"
        if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > MAX_AGE_S:
            return 401, f"sent at {sent_at}, which is not within {MAX_AGE_S} s of this clock"
        with self._lock:
            # The server sends an event again, with the same id, where it waited for the answer in vain.
            if delivery in self._known:
                return 200, "known"
            self._known.add(delivery)
        event, data = json.loads(body), json.loads(body)["data"]
        what = (event["entity"], event["action"], data.get("name"), data.get("alias"))
        if what != ("model_version_alias", "created", MODEL, ALIAS):
            return 200, "no move of the champion"
        self.moves.put(str(data["version"]))
        return 202, "redeploying"

    def redeploy(self, command: list[str]) -> None:
        """Runs the command for each move, for ever; where it fails, naming the same version again tries it anew."""
        deployed = ""
        while True:
            version = self.moves.get()
            if version != deployed:
                done = subprocess.run(command, env={**os.environ, "CHAMPION_VERSION": version}, check=False)
                deployed = version if done.returncode == 0 else ""
                print(f"version {version}: exit code {done.returncode}", file=sys.stderr, flush=True)


def make_server(receiver: Receiver, port: int) -> ThreadingHTTPServer:
    """Returns a server on this machine that hands events to a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MAX_BYTES:
                status, sentence = 413, f"found more than {MAX_BYTES} bytes or no length"
            else:
                names = ("Delivery-Id", "Timestamp", "Signature")
                headers = [self.headers.get(f"X-MLflow-{name}", "") for name in names]
                status, sentence = receiver.receive(*headers, self.rfile.read(int(length)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(sentence.encode())

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Receives until it is stopped."""
    parser = argparse.ArgumentParser(description="Runs a command when the champion moves.")
    parser.add_argument("--port", type=int, default=5003)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what redeploys")
    options, secret = parser.parse_args(), os.environ.pop("WEBHOOK_SECRET", "")
    if not secret or not options.command:
        parser.exit(2, "webhook: expected the secret in WEBHOOK_SECRET, and a command\n")
    receiver = Receiver(secret)
    threading.Thread(target=receiver.redeploy, args=(options.command,), daemon=True).start()
    with make_server(receiver, options.port) as server:
        print(f"Listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
