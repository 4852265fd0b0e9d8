"""The tracking UI in a real browser: the link that `make ui` prints leads to the runs side by side."""

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

from sls.tracking.runs import tracked_run

pytestmark = pytest.mark.slow
START_S, VIEW_S = 120, 120


@pytest.fixture
def address(store, tmp_path: Path) -> Iterator[str]:
    """The link to the compare view of two evaluations."""
    for recipe, eer_percent in (("v1", 3.51), ("v2", 3.47)):
        with tracked_run("evaluate", f"evaluate {recipe} LA", {"recipe": recipe, "track": "LA"}) as run:
            run.log_metrics({"LA/eer_percent": eer_percent, "LA/min_tdcf": 0.27})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "entrypoints.ui", "--port", str(port)]
    with (tmp_path / "ui.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        yield re.search(r"http://\S+", process.stdout.readline()).group()
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def test_compare_view_shows_both_runs_and_their_metrics(address: str, program: Callable[[str], str]) -> None:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    # A container's root has neither a sandbox nor a large /dev/shm.
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1500,1000",
    ):
        options.add_argument(flag)
    wait_until_answers(address)
    driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    try:
        driver.get(address)
        expected = {"evaluate v1 LA", "evaluate v2 LA", "LA/eer_percent", "LA/min_tdcf"}
        WebDriverWait(driver, VIEW_S).until(
            lambda page: all(
                name in page.execute_script("return document.body.innerText") for name in expected
            ),
            f"the compare view does not show all of {sorted(expected)}",
        )
    finally:
        driver.quit()


def wait_until_answers(address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the UI did not start")
