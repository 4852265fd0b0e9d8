"""Asks a served countermeasure about recordings, with nothing but Python.

    python examples/client.py http://127.0.0.1:5001 speech.flac other.wav

Prints one JSON object for each recording. Exits with 1 where the server refuses, and with 2 where there is no answer
or no recording. A service on this machine is asked directly; one elsewhere through the proxy of the environment
(`http_proxy`, `https_proxy`, `no_proxy`), if it names one, as curl does: the proxy sees the recordings then.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 90
"""More than the 60 s that the server gives a request, so that it is the server that says so."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SENTENCES = {
    413: "the recordings are too large for the service",
    504: "the service took too long: send fewer recordings",
}


class Refused(Exception):
    """The server's refusal, in one sentence."""


class NoAnswer(Exception):
    """There is no server, or it does not speak as one."""


def ask(address: str, paths: list[Path], **params: float | bool) -> list[dict[str, object]]:
    """Returns the answer for each recording; params are those of the model's signature.

    Raises:
        Refused: the server answers with another status than 200.
        NoAnswer: the address is none, or no served countermeasure answers there.
        OSError: a recording cannot be read.
    """
    rows = [{"audio": base64.b64encode(path.read_bytes()).decode()} for path in paths]
    body = json.dumps({"dataframe_records": rows, "params": params}).encode()
    status, text = post(f"{address}/invocations", body)
    answer = parse(text)
    if status != 200:
        sentence = SENTENCES.get(status, f"the service answered with status {status}")
        raise Refused(answer.get("message") or sentence)
    if not isinstance(answer.get("predictions"), list):
        raise NoAnswer(f"{address}: found an answer without predictions, expected a served countermeasure")
    return answer["predictions"]


def post(address: str, body: bytes) -> tuple[int, bytes]:
    """Returns the status and the text of an answer, whatever the status.

    Raises:
        NoAnswer: the address is none, or nothing answers there in time.
    """
    try:
        is_here = urlsplit(address).hostname in LOOPBACK
        opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_here else []))
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method="POST")
        try:
            answer = opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise NoAnswer(f"{address}: no answer: {str(reason) or type(error).__name__}") from None


def parse(text: bytes) -> dict[str, Any]:
    """Returns the JSON object of an answer; an empty one where it is something else."""
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def main() -> int:
    """Asks about the recordings of the command line."""
    if len(sys.argv) < 3:
        print("usage: client.py ADDRESS RECORDING ...", file=sys.stderr)
        return 2
    address, paths = sys.argv[1].rstrip("/"), [Path(name) for name in sys.argv[2:]]
    try:
        answers = ask(address, paths, curve=True)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except NoAnswer as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot read {error.filename}: {error.strerror}, expected a recording", file=sys.stderr)
        return 2
    for path, answer in zip(paths, answers, strict=True):
        print(json.dumps({"file": path.name, **answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
