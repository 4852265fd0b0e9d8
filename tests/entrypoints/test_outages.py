"""Doors that keep no journal, behind a gateway that is out of order: complete, or one line and no finished run."""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Run

from entrypoints.evaluate import evaluate
from entrypoints.register import register
from entrypoints.score import score
from entrypoints.train import train
from sls.tracking.store import find_runs
from tests.servers import GATEWAY_FAULTS, Gateway, Server

FOREVER = 10_000
WHOLE: dict[str, tuple[Run, int]] = {}
"""By door a run without a fault, and how many requests it took."""


@pytest.fixture(scope="module")
def trained(server: Server, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a training on the server."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("MLFLOW_TRACKING_URI", server.uri)
        patches.setenv("SLS_JOURNAL_DIR", str(tmp_path_factory.mktemp("journal")))
        words = ["--data_root", str(small_corpus), "--num_workers", "0", "--device", "cpu"]
        words += ["--xlsr_model", "random:tiny", "--num_epochs", "1"]
        result = CliRunner().invoke(train, words)
        assert result.exit_code == 0, result.output
        (run,) = find_runs(MlflowClient(), "tags.kind = 'train'")
        mlflow.set_tracking_uri(None)
    return str(run.info.run_id)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "fault"), [*enumerate(GATEWAY_FAULTS)])
def test_door_behind_a_gateway_out_of_order_is_complete_or_says_so(
    server: Server,
    trained: str,
    small_corpus: Path,
    store,
    tmp_path: Path,
    monkeypatch,
    number: int,
    fault: str,
) -> None:
    """Each fault at one door and one moment of its work, so that every door meets faults at every moment."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    data = ["--data_root", str(small_corpus), "--track", "LA"]
    calls: dict[str, Callable[[], Result]] = {
        "score": lambda: CliRunner().invoke(
            score,
            [*data, "--model", f"runs:/{trained}", "--num_workers", "0", "--output", str(tmp_path / "s.txt")],
        ),
        "evaluate": lambda: CliRunner().invoke(evaluate, data),
        "register": lambda: CliRunner().invoke(register, ["--run_id", trained]),
    }
    client = MlflowClient(server.uri)
    # All, in order, whichever case comes first: what is evaluated has been scored.
    for name in (name for name in calls if name not in WHOLE):
        expected, num_requests = behind_gateway(server, monkeypatch, calls[name], "", FOREVER, 0)
        assert expected.exit_code == 0, expected.output
        WHOLE[name] = newest(client, name), num_requests
    seen = {whole.info.run_id for whole, _ in WHOLE.values()}
    kind = list(calls)[number % len(calls)]
    call = calls[kind]
    whole, num_requests = WHOLE[kind]
    seen.add(newest(client, kind).info.run_id)
    half, end = num_requests // 2, num_requests - 4
    after, how_many = ((half, 1), (half, FOREVER), (end, FOREVER))[number // len(calls) % 3]
    case = f"{kind}: {how_many} of {fault} after {after} of {num_requests}"
    result, _ = behind_gateway(server, monkeypatch, call, fault, how_many, after)
    assert "Traceback" not in result.output, case
    run = newest(client, kind)
    if result.exit_code == 0:
        assert run.info.status == "FINISHED", case
        assert run.info.run_id not in seen, case
        # Scores that are there already are taken over: nothing is measured, or warned of, again.
        needed = [name for name in files(client, whole) if kind != "score" or "scores/" in name]
        assert set(needed) <= set(files(client, run)), case
        assert run.data.tags.keys() >= whole.data.tags.keys(), case
        assert kind == "score" or run.data.metrics.keys() == whole.data.metrics.keys(), case
    else:
        lines = [line for line in result.stderr.splitlines() if not re.match("WARNING|INFO", line)]
        assert [line.partition(":")[0] for line in lines[-1:]] == [kind], (case, result.output)
        assert result.exit_code == 1, (case, result.output)
        assert run.info.run_id in seen or run.info.status != "FINISHED", case


def behind_gateway(
    server: Server, monkeypatch, call: Callable[[], Result], fault: str, num_requests: int, after: int
) -> tuple[Result, int]:
    """Calls a door through a gateway of its own; what came of it, and how many requests it took."""
    gateway = Gateway(server.port)
    gateway.disturb(fault, num_requests, after)
    try:
        with monkeypatch.context() as patches:
            mlflow.set_tracking_uri(None)
            patches.setenv("MLFLOW_TRACKING_URI", gateway.uri)
            return call(), gateway.num_requests
    finally:
        gateway.close()
        mlflow.set_tracking_uri(None)


def newest(client: MlflowClient, kind: str) -> Run:
    experiments = [item.experiment_id for item in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.kind = '{kind}'", order_by=["attributes.start_time DESC"])
    return client.get_run(found[0].info.run_id)


def files(client: MlflowClient, run: Run) -> list[str]:
    """The artifacts of a run, a level deep."""
    top = client.list_artifacts(run.info.run_id)
    below = [
        item for place in top if place.is_dir for item in client.list_artifacts(run.info.run_id, place.path)
    ]
    return sorted(item.path for item in [*top, *below])
