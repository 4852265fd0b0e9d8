"""Tests of `benchmarks.kills`: its gateway and its clock do what they say, and a training that is killed is whole."""

import http.client
import http.server
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import pytest

from benchmarks.kill_rounds import check_processes, open_round, train_round
from benchmarks.kills import prepare_training
from benchmarks.unsteady_gateway import ANSWERS, STEADY, TROUBLES, Gateway, ShiftingClock

WHOLE = b"the whole answer"


class Behind(http.server.BaseHTTPRequestHandler):
    """A server that answers, and counts what reaches it."""

    seen: list[str]

    def do_POST(self) -> None:
        self.seen.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(201)
        self.send_header("Content-Length", str(len(WHOLE)))
        self.end_headers()
        self.wfile.write(WHOLE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("mode", [STEADY, *TROUBLES])
def test_the_gateway_answers_as_its_mode_says(mode: str) -> None:
    handler = type("Handler", (Behind,), {"seen": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gateway = Gateway(server.server_address[1])
    gateway.mode = mode
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_address[1], timeout=20)
    try:
        connection.request("POST", "/place", b"sent")
        if mode in ("closed before", "closed after", "half an answer"):
            with pytest.raises((http.client.HTTPException, OSError)):
                connection.getresponse().read()
        else:
            answer = connection.getresponse()
            expected = (ANSWERS[mode][0], ANSWERS[mode][2]) if mode in ANSWERS else (201, WHOLE)
            assert (answer.status, answer.read()) == expected
        is_passed = mode not in (*ANSWERS, "closed before")
        assert handler.seen == ["sent"] * is_passed
    finally:
        connection.close()
        for one in (gateway, server):
            one.shutdown()
            one.server_close()


@pytest.mark.parametrize("shift_s", [-86_400, 3_600])
def test_the_clock_jumps_under_a_process_that_runs(tmp_path: Path, program, shift_s: int) -> None:
    program("cc")
    clock = ShiftingClock(tmp_path)
    code = "import time\nfor _ in range(2): print(time.time(), time.monotonic(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **clock.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    first = [float(word) for word in process.stdout.readline().split()]
    clock.jump(shift_s)
    process.stdin.write("\n")
    process.stdin.flush()
    second = [float(word) for word in process.stdout.readline().split()]
    process.communicate("\n")
    assert abs(first[0] - time.time()) < 600
    assert abs(second[0] - first[0] - shift_s) < 600
    assert 0 <= second[1] - first[1] < 600


@pytest.mark.slow
def test_a_training_that_is_killed_behind_a_gateway_that_fails_is_whole(tmp_path: Path, monkeypatch) -> None:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    troubles = ("503 json", "closed before", "closed after", "slow")
    try:
        expected = prepare_training(tmp_path / "undisturbed")
        with open_round(tmp_path / "0", expected, random.Random(0), troubles) as work:
            assert [*train_round(work), *check_processes(work)] == [], work.log
        assert sum("-> -9 " in line for line in work.log) > 0
    finally:
        mlflow.set_tracking_uri(None)
