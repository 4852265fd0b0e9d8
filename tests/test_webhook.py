"""The example's receiver of webhooks, called by a real tracking server: one redeployment for each move."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from examples.webhook import MAX_AGE_S, sign
from sls.config import PROJECT_ROOT
from tests.servers import Server

pytestmark = pytest.mark.slow
SECRET = "of this test"
ON_LOOPBACK = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "A" * 43 + "=",
}
NOTE = "import os, sys; print(os.environ['CHAMPION_VERSION'], file=open(sys.argv[1], 'a'))"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A receiver whose command notes each version in a file."""
    command = ["examples/webhook.py", "--port", "0", sys.executable, "-c", NOTE, str(tmp_path / "redeployed")]
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET}
    command, pipe = [sys.executable, *command], subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stdout=pipe, text=True) as process:
        yield int(process.stdout.readline().rsplit(":", 1)[1])
        process.kill()


def wait_for(redeployed: Path, *versions: str) -> None:
    deadline = time.monotonic() + 60
    while not redeployed.exists() or redeployed.read_text().split() != list(versions):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def send(port: int, delivery: str, version: str = "7", alias: str = "champion", **headers: str) -> int:
    """Sends a move, signed unless headers say otherwise; returns the status of the answer."""
    data = {"name": "xlsr-sls", "alias": alias, "version": version}
    body = json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()
    sent_at = headers.get("Timestamp", str(int(time.time())))
    signed = {
        "Delivery-Id": delivery,
        "Timestamp": sent_at,
        "Signature": sign(SECRET, delivery, sent_at, body),
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "POST", "/", body, {f"X-MLflow-{key}": text for key, text in (signed | headers).items()}
    )
    return connection.getresponse().status


def test_server_calls_once_for_each_move(store: Path, tmp_path: Path, port: int) -> None:
    server = Server(tmp_path, store)
    server.start(**ON_LOOPBACK)
    try:
        client = MlflowClient(server.uri)
        client.create_registered_model("xlsr-sls")
        events = ["model_version_alias.created"]
        for secret, status in ((SECRET, 200), ("a guess", 401)):
            hook = client.create_webhook("redeploy", f"http://127.0.0.1:{port}", events, secret=secret)
            assert client.test_webhook(hook.webhook_id).response_status == status
        for moved in (["1"], ["1", "2"]):
            model = client.create_logged_model("0").model_id
            client.create_model_version("xlsr-sls", f"models:/{model}", model_id=model)
            for alias in ("recipe-v1", "champion"):
                client.set_registered_model_alias("xlsr-sls", alias, moved[-1])
            wait_for(tmp_path / "redeployed", *moved)
    finally:
        server.kill()


def test_what_is_forged_stale_or_known_redeploys_nothing(port: int, tmp_path: Path) -> None:
    stale = str(int(time.time()) - 2 * MAX_AGE_S)
    assert send(port, "1", Signature="v1,forged") == send(port, "1", Signature="") == 401
    assert send(port, "1", Timestamp=stale) == send(port, "1", Timestamp="now") == 401
    assert send(port, "2", alias="recipe-v1") == 200
    assert (send(port, "3"), send(port, "3"), send(port, "4"), send(port, "5", "8")) == (202, 200, 202, 202)
    wait_for(tmp_path / "redeployed", "7", "8")
