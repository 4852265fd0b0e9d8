"""A gateway between the run and the server, which answers in its place: nothing that it says passes for MLflow's."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import mlflow
import pytest
from requests import Response

from sls.tracking import sender
from sls.tracking.active_run import tracked_run
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.sender import send_journal
from sls.tracking.server_answers import NotMlflow, expect_mlflow
from sls.tracking.store import find_run
from tests.servers import GATEWAY_FAULTS, Gateway, Server
from tests.tracking.test_sender import assert_whole, record_training

NUM_EPOCHS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory, directory / "mlflow.db")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def gateway(
    server: Server, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gateway]:
    """Stands before the server; the working directory is an empty one."""
    gateway = Gateway(server.port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gateway.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(sender, "RETRY_DELAY_S", 0.05)
    monkeypatch.setattr(sender, "AWAY_PATIENCE_S", 0.3)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    yield gateway
    gateway.close()
    mlflow.set_tracking_uri(None)


API = "http://host:5000/prefix/api/2.0/mlflow"
ARTIFACT = f"{API}-artifacts/artifacts/1/2/artifacts/state/a.pt"
ANSWERS = [
    ("GET", f"{API}/runs/get", b'{"run": {"info": {}}}', True),
    ("GET", f"{API}/runs/get", b"{}", False),
    ("GET", f"{API}/runs/get", b'{"status": "ok"}', False),
    ("GET", f"{API}/runs/get", b"", False),
    ("POST", f"{API}/runs/search", b"{}", True),
    ("POST", f"{API}/runs/search", b'{"runs": [], "a_newer_field": 1}', True),
    ("POST", f"{API}/runs/search", b"[]", False),
    ("POST", f"{API}/runs/log-batch", b"{}", True),
    ("POST", f"{API}/runs/log-batch", b"", False),
    ("POST", f"{API}/runs/log-batch", b"200 OK", False),
    ("POST", f"{API}/runs/log-batch", b'{"status": "ok"}', False),
    ("POST", f"{API}/logged-models", b"{}", False),
    ("GET", f"{API}/logged-models/m-1/artifacts/directories", b'{"root_uri": "x"}', True),
    ("PATCH", f"{API}/logged-models/m-1/tags", b"{}", True),
    ("PUT", ARTIFACT, b"", True),
    ("PUT", ARTIFACT, b"<html>", False),
    ("DELETE", ARTIFACT, b"{}", True),
    ("DELETE", ARTIFACT, b"", False),
    ("GET", ARTIFACT, b"<html>", False),
    ("GET", "http://host:5000/version", b"3.17.2", True),
]


@pytest.mark.parametrize(("method", "url", "content", "expected"), ANSWERS)
def test_only_what_mlflow_describes_is_an_answer(
    method: str, url: str, content: bytes, expected: bool
) -> None:
    response = Response()
    response.status_code, response._content = 200, content
    with nullcontext() if expected else pytest.raises(NotMlflow, match="found an answer 200"):
        expect_mlflow(method, url, response)


def test_a_file_comes_as_an_attachment() -> None:
    response = Response()
    response.status_code, response._content = 200, b"<html>"
    response.headers["Content-Disposition"] = "attachment; filename=a.pt"
    expect_mlflow("GET", ARTIFACT, response)
    response.status_code = 302
    with pytest.raises(NotMlflow):
        expect_mlflow("GET", ARTIFACT, response)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["start", "middle", "end"])
@pytest.mark.parametrize("fault", GATEWAY_FAULTS)
def test_training_behind_a_gateway_out_of_order_is_complete_afterwards(
    gateway: Gateway, monkeypatch, fault: str, moment: str
) -> None:
    name = f"{fault} at the {moment}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)

    def before_epoch(epoch: int) -> None:
        if epoch == 1 and moment == "middle":
            gateway.disturb(fault, 7)

    if moment == "start":
        gateway.disturb(fault, 7)
    with tracked_run("train", journal=True) as run:
        record_training(run, NUM_EPOCHS, before_epoch)
        if moment == "end":
            gateway.disturb(fault, 10_000)
    gateway.disturb("", 0)
    for path in find_journals():
        sent = send_journal(path)
        assert (sent.num_refused, sent.damage) == (0, "")
    assert find_journals() == []
    assert_whole(NUM_EPOCHS, {NUM_EPOCHS - 1}, name=name)
    assert find_run(run.client, run.run_id).data.tags.get("refused", "") == ""
    assert list(Path.cwd().iterdir()) == []
