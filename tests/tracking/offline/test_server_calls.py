"""Who said no: MLflow itself, or a gateway in between, which is as good as no answer."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunTag

from sls.tracking.artifacts import open_artifacts
from sls.tracking.offline.server_calls import is_away, is_refusal, short_calls

Answer = tuple[int, str, str]
HTML = "<html><body><h1>{}</h1></body></html>"


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers everything in one way; its address."""
    servers = []

    def start(answer: Answer) -> str:
        status, kind, text = answer

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def mlflow_says(code: str, status: int = 400) -> Answer:
    return status, "application/json", json.dumps({"error_code": code, "message": "of the request"})


ANSWERS = [
    (mlflow_says("INVALID_PARAMETER_VALUE"), True),
    (mlflow_says("RESOURCE_DOES_NOT_EXIST", 404), True),
    (mlflow_says("PERMISSION_DENIED", 403), False),
    (mlflow_says("TEMPORARILY_UNAVAILABLE", 503), False),
    ((400, "text/html", HTML.format("400 Bad Request")), False),
    ((404, "text/html", HTML.format("404 Not Found")), False),
    ((413, "text/html", HTML.format("413 Request Entity Too Large")), False),
    ((404, "application/json", '{"message": "no Route matched with those values"}'), False),
    ((404, "application/json", "[404]"), False),
    ((502, "text/html", HTML.format("502 Bad Gateway")), False),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_only_mlflow_refuses(answering, tmp_path: Path, answer: Answer, expected: bool) -> None:
    client = MlflowClient(answering(answer))
    file = tmp_path / "state.pt"
    file.write_text("state")
    store = open_artifacts(client, "mlflow-artifacts:/1/2/artifacts")
    calls = [
        lambda: client.log_batch("0" * 32, tags=[RunTag("kind", "train")]),
        lambda: client.get_run("0" * 32),
        lambda: store.log_artifact(str(file), "state"),
        lambda: store.list_artifacts("state"),
    ]
    for call in calls:
        with short_calls(), pytest.raises(Exception, match=".") as caught:
            call()
        assert (is_refusal(caught.value), is_away(caught.value)) == (expected, False)
