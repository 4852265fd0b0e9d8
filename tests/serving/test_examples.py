"""The examples' client and page against services that misbehave; nothing of MLflow runs here."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sls.config import PROJECT_ROOT

pytestmark = pytest.mark.slow

EXAMPLES = PROJECT_ROOT / "examples"
JSON = {"Content-Type": "application/json"}


class Service:
    """A service on loopback, which answers every question alike."""

    def __init__(self, status: int, text: bytes, content_type: str = "application/json") -> None:
        self.questions: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                service.questions.append(self.path)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Starts services, which end with the test."""
    services: list[Service] = []

    def start(*answer: object) -> Service:
        service = Service(*answer)
        services.append(service)
        threading.Thread(target=service.server.serve_forever, args=(0.05,), daemon=True).start()
        return service

    yield start
    for service in services:
        service.server.shutdown()
        service.server.server_close()


def run_client(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "client.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **variables},
    )


@pytest.fixture
def recording(tmp_path: Path) -> str:
    (tmp_path / "speech.flac").write_bytes(b"fLaC")
    return str(tmp_path / "speech.flac")


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (
            (504, b"Request processing time exceeded limit"),
            1,
            "too long: .*fewer recordings",
        ),
        ((415, b"This predictor only supports", "text/plain"), 1, r"\b415"),
        ((404, b'{"detail": "Not Found"}'), 1, r"\b404"),
        ((400, b'["a list"]'), 1, r"\b400"),
        ((400, b'{"message": "audio: not base64"}'), 1, "audio: not base64"),
        ((200, b"<html>"), 2, "found .*without predictions, expected .*"),
    ],
)
def test_client_says_one_sentence_whatever_the_service_answers(
    serve, recording: str, answer: tuple, code: int, sentence: str
) -> None:
    done = run_client(serve(*answer).address, recording)
    assert done.returncode == code
    assert done.stdout == ""
    assert re.search(f"{sentence}\n$", done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "127.0.0.1:5001", "http://[", "http://127.0.0.1:port"]
)
def test_client_without_an_answer_says_one_line(recording: str, address: str) -> None:
    done = run_client(address, recording)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{address}/invocations: ")
    assert done.stderr.count("\n") == 1


def test_client_without_a_recording_says_one_line(tmp_path: Path) -> None:
    for arguments, sentence in (
        ([], r"usage: client\.py ADDRESS RECORDING \.\.\."),
        (["none.flac"], r".* none\.flac: .*, expected a recording"),
        ([str(tmp_path)], rf".* {re.escape(str(tmp_path))}: .*directory, expected a recording"),
    ):
        done = run_client(*(["http://127.0.0.1:9", *arguments] if arguments else []))
        assert done.returncode == 2
        assert re.fullmatch(f"{sentence}\n", done.stderr)


def test_curl_client_without_a_recording_says_one_line_and_asks_nobody(serve, tmp_path: Path) -> None:
    service = serve(200, b'{"predictions": []}')
    for name in (str(tmp_path / "none.flac"), str(tmp_path)):
        done = subprocess.run(
            ["sh", str(EXAMPLES / "client.sh"), service.address, name],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert re.fullmatch(rf".* {re.escape(name)}: expected a recording\n", done.stderr)
    assert service.questions == []


def test_client_asks_a_service_on_this_machine_directly_and_another_through_the_proxy(
    serve, recording: str
) -> None:
    proxy = serve(400, b'{"message": "of the proxy"}')
    service = serve(200, b'{"predictions": [{"score": 0.5}]}')
    variables = {"http_proxy": proxy.address, "no_proxy": "", "NO_PROXY": ""}
    done = run_client(service.address, recording, **variables)
    assert json.loads(done.stdout) == {"file": "speech.flac", "score": 0.5}
    assert proxy.questions == []
    assert run_client("http://service.invalid", recording, **variables).stderr == "of the proxy\n"


@contextmanager
def page_of(service: str, **variables: str) -> Iterator[int]:
    """The page beside a service; its port."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "page.py"), service, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    try:
        yield int(re.search(r":(\d+)$", process.stdout.readline().strip()).group(1))
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(
    port: int, method: str = "POST", path: str = "/ask", body: bytes = b"{}", **headers: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {**JSON, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_page_passes_a_question_to_the_service_and_to_no_proxy(serve) -> None:
    service, proxy = serve(200, b'{"predictions": []}'), serve(200, b"{}")
    with page_of(service.address, http_proxy=proxy.address, no_proxy="", NO_PROXY="") as port:
        assert ask(port) == (200, '{"predictions": []}')
    assert (service.questions, proxy.questions) == (["/invocations"], [])


def test_page_answers_by_the_names_of_this_machine_alone(serve) -> None:
    service = serve(200, b"{}")
    with page_of(service.address) as port:
        for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            assert ask(port, Host=host)[0] == ask(port, "GET", "/", Host=host)[0] == 200
        asked = len(service.questions)
        for host in (f"rebound.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
            assert (
                ask(port, Host=host)
                == ask(port, "GET", "/", Host=host)
                == (403, '{"message": "no such host"}')
            )
        assert len(service.questions) == asked


def test_page_takes_in_a_question_that_is_too_large_before_it_refuses() -> None:
    with page_of("http://127.0.0.1:9") as port:
        status, text = ask(port, body=bytes(65 * 2**20))
        assert status == 413
        assert "expected a shorter" in json.loads(text)["message"]
        assert ask(port, **{"Content-Length": "²"})[0] == 413


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:5001", "localhost:5001", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port", "http://["],
)
def test_page_refuses_an_address_that_is_none_in_one_line(address: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "page.py"), address, "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    found = re.escape(repr(address))
    assert re.fullmatch(rf"service: found {found}, expected .*http://127\.0\.0\.1:5001\n", done.stderr)


def test_largest_file_of_the_page_fits_into_a_question() -> None:
    taken = re.search(r"^MAX_BYTES = (\d+) \* 2\*\*20$", (EXAMPLES / "page.py").read_text(), re.MULTILINE)
    sent = re.search(r"const MAX_BYTES = (\d+) \* 2 \*\* 20 - 1024;", (EXAMPLES / "page.html").read_text())
    assert int(sent.group(1)) * 4 == int(taken.group(1)) * 3
