"""A gateway between the run and the server, which answers in its place: nothing that it says passes for MLflow's."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils import rest_utils
from requests import Request, Response

from sls.tracking import sender, server_answers
from sls.tracking.active_run import tracked_run
from sls.tracking.artifacts import upload_directory
from sls.tracking.offline.journal_files import find_journals
from sls.tracking.sender import send_journal
from sls.tracking.server_answers import NotMlflow, expect_mlflow, watch_answers
from sls.tracking.store import find_run
from tests.servers import GATEWAY_FAULTS, Gateway, Server
from tests.tracking.test_sender import assert_whole, record_training

pytestmark = pytest.mark.slow

NUM_EPOCHS = 2


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


def test_every_request_takes_the_answer_of_a_real_server_and_no_page_in_its_place(
    server: Server, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = set()

    def expect_no_page(method: str, url: str, response: Response) -> None:
        expect_mlflow(method, url, response)
        if url.endswith("/server-info"):
            return  # of the server itself: nothing that is recorded depends on it
        page = Response()
        page.status_code, page._content = 200, b"<html>Please log in</html>"
        with pytest.raises(NotMlflow):
            expect_mlflow(method, url, page)
        seen.add((method, urlsplit(url).path.partition("mlflow")[2].rpartition("/")[2]))

    monkeypatch.setattr(server_answers, "expect_mlflow", expect_no_page)
    client = MlflowClient(server.uri)
    experiment = client.create_experiment("answers")
    assert client.get_experiment(experiment).name == client.get_experiment_by_name("answers").name
    client.set_experiment_tag(experiment, "x", "")
    condition = "tags.none = 'x'"
    assert not client.search_experiments(filter_string=condition)
    assert not client.search_runs([experiment], condition)
    assert not client.search_logged_models([experiment], condition)
    assert not client.search_model_versions("name = 'none'")
    run_id = client.create_run(experiment).info.run_id
    client.set_tag(run_id, "x", "")
    client.delete_tag(run_id, "x")
    client.log_batch(run_id)
    client.log_metric(run_id, "x", 1.0)
    assert client.get_metric_history(run_id, "x")
    assert not client.get_metric_history(run_id, "y")
    dataset = Dataset("name", "digest", "local", "{}")
    client.log_inputs(run_id, [DatasetInput(dataset)])
    model = client.create_logged_model(experiment, "name", run_id)
    client.set_logged_model_tags(model.model_id, {"x": ""})
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    store = get_artifact_repository(client.get_run(run_id).info.artifact_uri, tracking_uri=server.uri)
    assert not client.list_artifacts(run_id)
    for name in ("empty.bin", "page.html", "names of a disk %20 ä.txt"):
        Path(name).write_bytes(b"<html></html>" if "page" in name else b"")
    upload_directory(store, Path.cwd(), "here")
    assert Path(store.download_artifacts("here/page.html")).read_bytes() == b"<html></html>"
    store.delete_artifacts("here")
    assert client.finalize_logged_model(model.model_id, "READY").status == "READY"
    assert not client.list_logged_model_artifacts(model.model_id)
    client.update_run(run_id, name="x")
    client.set_terminated(run_id)
    client.create_registered_model("answers")
    version = client.create_model_version(
        "answers", f"models:/{model.model_id}", model_id=model.model_id
    ).version
    client.update_model_version("answers", version, "")
    client.set_model_version_tag("answers", version, "x", "")
    client.set_registered_model_alias("answers", "best", version)
    assert client.get_model_version_by_alias("answers", "best").version == version
    assert client.get_model_version_download_uri("answers", version)
    assert client.get_registered_model("answers").aliases
    client.delete_registered_model_alias("answers", "best")
    assert len(seen) > 20


def test_the_installed_mlflow_lets_its_answers_be_checked() -> None:
    assert getattr(getattr(rest_utils, server_answers.SEND, None), "is_watched", False), (
        f"MLflow {mlflow.__version__} sends its requests by something else than mlflow.utils.rest_utils."
        f"{server_answers.SEND}: doors go on, but take pages of gateways for answers; "
        "mend sls/tracking/server_answers.py"
    )


@pytest.mark.parametrize("missing", [server_answers.SEND, "extract_all_api_info_for_service"])
def test_an_mlflow_that_is_made_otherwise_goes_on_without_a_check(monkeypatch, caplog, missing: str) -> None:
    monkeypatch.setattr(rest_utils, server_answers.SEND, lambda **request: Response())
    monkeypatch.delattr(rest_utils, missing)
    server_answers.find_requests.cache_clear()
    watch_answers()
    server_answers.find_requests.cache_clear()
    (record,) = caplog.records
    assert missing in record.message


def test_a_request_with_other_arguments_is_checked_all_the_same(monkeypatch) -> None:
    def send_otherwise(*, timeout: int, request: Request) -> Response:
        response = Response()
        response.status_code, response._content = 200, b"<html>"
        response.request = request.prepare()
        return response

    monkeypatch.setattr(rest_utils, server_answers.SEND, send_otherwise)
    watch_answers()
    with pytest.raises(NotMlflow):
        getattr(rest_utils, server_answers.SEND)(timeout=1, request=Request("GET", f"{API}/runs/get"))


# By training: what is wrong at its start, in its middle and at its end, so that every fault comes up.
FAULTS = [[GATEWAY_FAULTS[(first + more) % len(GATEWAY_FAULTS)] for more in (0, 6, 11)] for first in range(6)]


def test_every_fault_comes_up() -> None:
    assert {fault for faults in FAULTS for fault in faults} == set(GATEWAY_FAULTS)


@pytest.mark.parametrize("faults", FAULTS, ids="-".join)
def test_training_behind_a_gateway_out_of_order_is_complete_afterwards(
    gateway: Gateway, monkeypatch, faults: list[str]
) -> None:
    name = "-".join(faults)
    at_start, in_the_middle, at_the_end = faults
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)

    def before_epoch(epoch: int) -> None:
        if epoch == 1:
            gateway.disturb(in_the_middle, 7)

    gateway.disturb(at_start, 7)
    with tracked_run("train", journal=True) as run:
        record_training(run, NUM_EPOCHS, before_epoch)
        gateway.disturb(at_the_end, 10_000)
    gateway.disturb("", 0)
    for path in find_journals():
        sent = send_journal(path)
        assert (sent.num_refused, sent.damage) == (0, "")
    assert find_journals() == []
    assert_whole(NUM_EPOCHS, {NUM_EPOCHS - 1}, name=name)
    assert find_run(run.client, run.run_id).data.tags.get("refused", "") == ""
    assert list(Path.cwd().iterdir()) == []
