"""Asks a served countermeasure about recordings, with nothing but Python.

    python examples/client.py http://127.0.0.1:5001 speech.flac other.wav

Prints one JSON object for each recording. Exits with 1 where the server refuses.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def ask(address: str, paths: list[Path], **params: float | bool) -> list[dict[str, object]]:
    """Returns the answer for each recording; params are those of the model's signature."""
    rows = [{"audio": base64.b64encode(path.read_bytes()).decode()} for path in paths]
    body = json.dumps({"dataframe_records": rows, "params": params}).encode()
    request = urllib.request.Request(
        f"{address}/invocations", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return list(json.load(answer)["predictions"])


def main() -> int:
    """Asks about the recordings of the command line."""
    address, paths = sys.argv[1], [Path(name) for name in sys.argv[2:]]
    try:
        answers = ask(address, paths, curve=True)
    except urllib.error.HTTPError as error:
        print(json.load(error)["message"], file=sys.stderr)
        return 1
    for path, answer in zip(paths, answers, strict=True):
        print(json.dumps({"file": path.name, **answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
