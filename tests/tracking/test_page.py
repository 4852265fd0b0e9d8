"""The page beside the served model, in a real browser."""

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.compare_view import headless_browser, wait_for_texts
from benchmarks.model_server import running_server
from sls.config import PROJECT_ROOT
from tests.tracking.uploads import FLAC, encode, frame_of, made_speech

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, with a calibrated model behind it."""
    with running_server(bundle, tmp_path_factory.mktemp("served"), OMP_NUM_THREADS="1") as server:
        command = [
            sys.executable,
            str(PROJECT_ROOT / "examples" / "page.py"),
            f"http://127.0.0.1:{server.port}",
        ]
        process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
        try:
            yield re.search(r"http://\S+", process.stdout.readline()).group()
        finally:
            process.terminate()
            process.wait(30)


def test_page_shows_verdict_curve_and_layers_of_a_dropped_recording(
    page: str, served, loaded, tmp_path: Path, program: Callable[[str], str]
) -> None:
    program("chromium")
    program("chromedriver")
    speech, letter = tmp_path / "speech.flac", tmp_path / "letter.txt"
    # Long enough for several windows, 3 s apart.
    content = encode(made_speech(7, 16_000), 16_000, format="FLAC")
    speech.write_bytes(content)
    letter.write_bytes(b"To whom it may concern")
    expected = served.predict(frame_of(content)).iloc[0]
    verdict = {"bonafide": "Bona fide", "spoof": "Spoof"}[expected["decision"]]
    with headless_browser(900, 900) as driver:
        driver.get(page)
        file = driver.find_element("id", "file")
        file.send_keys(str(speech))
        wait_for_texts(
            driver, {verdict, f"score {expected['score']:.4f}", "speech.flac", "Weight of each layer"}
        )
        assert len(driver.find_elements("css selector", "#curve circle")) == 4
        assert len(driver.find_elements("css selector", "#layers rect")) == loaded.info.encoder.num_layers
        file.send_keys(str(letter))
        wait_for_texts(driver, {"audio: not a WAV, FLAC, MP3 or OGG file"})
        assert not driver.find_element("id", "charts").is_displayed()
        drop(driver, FLAC)
        wait_for_texts(driver, {f"score {served.predict(frame_of(FLAC))['score'][0]:.4f}", "dropped.flac"})
        # A refused recording is a 400, which the browser notes; nothing else may go wrong.
        notes = [entry["message"] for entry in driver.get_log("browser")]
        assert not [note for note in notes if "favicon" not in note and "400" not in note]


def drop(driver, content: bytes) -> None:
    """Drops a file on the page, as a hand would."""
    driver.execute_script(
        """
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(arguments[0])], "dropped.flac"));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer}));
        """,
        list(content),
    )


def test_page_says_when_the_service_is_away_and_answers_its_own_questions_alone() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        free = listener.getsockname()[1]
    command = [
        sys.executable,
        str(PROJECT_ROOT / "examples" / "page.py"),
        f"http://127.0.0.1:{free}",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+)$", process.stdout.readline().strip()).group(1))
        answers = {}
        for path, kind in (
            ("/ask", "application/json"),
            ("/ask", "text/plain"),
            ("/other", "application/json"),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", path, b"{}", {"Content-Type": kind})
            answer = connection.getresponse()
            answers[path, kind] = answer.status, json.load(answer)["message"]
    finally:
        process.terminate()
        process.wait(30)
    assert answers["/ask", "application/json"] == (
        502,
        f"the service at http://127.0.0.1:{free} does not answer",
    )
    assert answers["/ask", "text/plain"][0] == answers["/other", "application/json"][0] == 404
