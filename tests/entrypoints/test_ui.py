"""The tracking UI in a real browser: the link that `make ui` prints leads to the recipes side by side."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from benchmarks.compare_view import headless_browser, open_view, wait_for_texts
from entrypoints.ui import ui
from sls.tracking.active_run import tracked_run
from sls.tracking.store import connect

pytestmark = pytest.mark.slow
START_S = 120
# The UI draws what lies within the window.
WIDTH, HEIGHT = 1500, 3000
TRACKS = ("LA", "DF", "In-the-Wild")
EERS = {"v1": (3.51, 2.14, 7.84), "v2": (3.47, 3.75, 12.67)}


def record_experiment() -> None:
    """The runs of a whole experiment, and newer ones, more than the ten that the UI charts by itself."""
    with tracked_run("main", "main") as main:
        for recipe, eers in EERS.items():
            links = {"main_run_id": main.run_id, "recipe": recipe, "corpus": "demo"}
            with tracked_run("train", f"train {recipe}", links) as run:
                for epoch in range(3):
                    loss = 0.5 - epoch / 10
                    run.log_metrics({"train/loss": loss, "DF/eer_percent_by_epoch": 9 - epoch}, epoch)
                    if recipe == "v2":  # v1 does not validate
                        run.log_metrics({"val/loss": loss}, epoch)
            for track, eer_percent in zip(TRACKS, eers, strict=True):
                with tracked_run("score", f"score {recipe} {track}", {**links, "track": track}):
                    pass
                with tracked_run("evaluate", f"evaluate {recipe} {track}", {**links, "track": track}) as run:
                    run.log_metrics({f"{track}/eer_percent": eer_percent, f"{track}/eer_percent_low": 1.0})
    of_epoch = {"recipe": "v1", "corpus": "demo"}
    for epoch in range(12):
        with tracked_run("evaluate", f"of epoch {epoch}", {**of_epoch, "epochs_run_id": "0"}) as run:
            run.log_metrics({"LA/eer_percent": 50.0})


@pytest.fixture(scope="module")
def links(shared_store: Path, program: Callable[[str], str]) -> Iterator[list[str]]:
    """What `make ui` prints about a store with a whole experiment, while its UI is up."""
    program("chromium")
    program("chromedriver")
    record_experiment()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "entrypoints.ui", "--port", str(port)]
    with shared_store.with_name("ui.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        found = [re.search(r"http://\S+", process.stdout.readline()).group() for _ in range(2)]
        wait_until_answers(found[0])
        yield found
    finally:
        process.terminate()
        process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)


def test_port_that_is_taken_is_said_in_one_line(store: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = CliRunner().invoke(ui, ["--port", str(port)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"ui: port: found {port} taken")


def test_store_that_may_only_be_read_still_shows_where_its_runs_are(store: Path, monkeypatch) -> None:
    with tracked_run("train", tags={"recipe": "v1", "corpus": "demo"}):
        pass

    def refuse(*arguments: object) -> None:
        raise MlflowException("Permission denied")

    started = []
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    result = CliRunner().invoke(ui, ["--port", "0"])
    assert (result.exit_code, len(started)) == (0, 1), result.output
    (line,) = result.stdout.splitlines()
    assert line.endswith("/#/experiments/1/runs")


def test_link_shows_both_recipes_side_by_side_by_track(links: list[str]) -> None:
    expected = {
        *("Group: v1", "Group: v2", "train v1", "train v2", "8 matching runs"),
        *(f"evaluate {recipe} {track}" for recipe in EERS for track in TRACKS),
        *(f"{track}/eer_percent" for track in TRACKS),
        *(f"{value:.2f}" for values in EERS.values() for value in values),
        *("DF/eer_percent_by_epoch", "train/loss", "val/loss"),
    }
    with headless_browser(WIDTH, HEIGHT) as driver:
        open_view(driver, links[0])
        wait_for_texts(driver, expected)
        shown = driver.execute_script("return document.body.innerText")
        assert "score v1" not in shown
        assert "of epoch" not in shown
        assert "eer_percent_low" not in shown


def test_plain_compare_of_two_trainings_shows_the_eer_of_each_track(links: list[str]) -> None:
    client = connect()
    runs = []
    for recipe, eers in EERS.items():
        run = client.create_run("0", tags={"kind": "train"}, run_name=f"train {recipe}")
        client.log_param(run.info.run_id, "cfg/monitor", {"v1": "train_loss", "v2": "val_loss"}[recipe])
        for track, eer_percent in zip(TRACKS, eers, strict=True):
            client.log_metric(run.info.run_id, f"{track}/eer_percent", eer_percent)
        runs.append(run.info.run_id)
    address = links[0].partition("#")[0]
    with headless_browser(WIDTH, HEIGHT) as driver:
        open_view(driver, f"{address}#/compare-runs?runs={json.dumps(runs)}&experiments={json.dumps(['0'])}")
        numbers = {f"{value:g}" for values in EERS.values() for value in values}
        names = {f"{track}/eer_percent" for track in TRACKS}
        wait_for_texts(
            driver, {"train v1", "train v2", "cfg/monitor", "train_loss", "val_loss"} | names | numbers
        )


def wait_until_answers(address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the UI did not start")
