"""The page beside the served model, in a real browser."""

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from benchmarks.compare_view import wait_for_texts
from benchmarks.model_server import running_server
from sls.config import PROJECT_ROOT
from tests.looks import emulate, find_faint_texts, find_overflow
from tests.serving.uploads import FLAC, encode, frame_of, made_speech

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
    page: str, served, loaded, tmp_path: Path, browser: Any
) -> None:
    speech, letter = tmp_path / "speech.flac", tmp_path / "letter.txt"
    # Long enough for several windows, 3 s apart.
    content = encode(made_speech(7, 16_000), 16_000, format="FLAC")
    speech.write_bytes(content)
    letter.write_bytes(b"To whom it may concern")
    expected = served.predict(frame_of(content)).iloc[0]
    verdict = {"bonafide": "Bona fide", "spoof": "Spoof"}[expected["decision"]]
    browser.get(page)
    file = browser.find_element("id", "file")
    file.send_keys(str(speech))
    wait_for_texts(
        browser,
        {
            verdict,
            f"score {expected['score']:.4f}",
            f"log-likelihood ratio {expected['llr']:.2f}",
            "if 5 % of recordings are spoofed",
            "a miss costs 1, a false alarm 10",
            "calibration: logistic, fitted on",
            "speech.flac",
            "Weight of each layer",
        },
    )
    assert len(browser.find_elements("css selector", "#curve circle")) == 4
    assert len(browser.find_elements("css selector", "#layers li")) == loaded.info.encoder.num_layers
    file.send_keys(str(letter))
    wait_for_texts(browser, {"audio: not a WAV, FLAC, MP3 or OGG file"})
    assert not browser.find_element("id", "charts").is_displayed()
    drop(browser, FLAC)
    wait_for_texts(browser, {f"score {served.predict(frame_of(FLAC))['score'][0]:.4f}", "dropped.flac"})
    # A refused recording is a 400, which the browser notes; nothing else may go wrong.
    notes = [entry["message"] for entry in browser.get_log("browser")]
    assert not [note for note in notes if "favicon" not in note and "400" not in note]


def drop(driver, content: bytes, name: str = "dropped.flac", place: str = "drop") -> None:
    """Drops a file on an element of the page, as a hand would."""
    driver.execute_script(
        """
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(arguments[0])], arguments[1]));
        document.getElementById(arguments[2]).dispatchEvent(new DragEvent("drop", {dataTransfer: transfer}));
        """,
        list(content),
        name,
        place,
    )


# The service is the test: it answers the questions of the page in the order that it likes.
STAND_IN = """
window.questions = [];
window.fetch = (address, options) => new Promise(resolve => {
  const answer = (status, text) => resolve(new Response(text, {status}));
  window.questions.push({params: JSON.parse(options.body).params, answer});
});
"""


def wait_for_questions(driver, count: int) -> None:
    deadline = time.monotonic() + 30
    while driver.execute_script("return questions.length") < count:
        assert time.monotonic() < deadline, "the page does not ask"
        time.sleep(0.05)


def answer(driver, index: int, status: int, text: str) -> None:
    """Answers a question of the page, and lets it show what it makes of that."""
    driver.execute_async_script(
        "questions[arguments[0]].answer(arguments[1], arguments[2]); setTimeout(arguments[3], 100)",
        index,
        status,
        text,
    )


def answer_of(score: float, num_points: int = 2, num_layers: int = 2, **more: object) -> str:
    row = {
        "score": score,
        "duration_used_s": 4,
        "warnings": "",
        "curve": json.dumps([{"start_s": float(n), "score": score - n % 5} for n in range(num_points)]),
        "layer_weights": json.dumps([0.5] * num_layers),
    }
    return json.dumps({"predictions": [row | more]})


@pytest.fixture
def standing_in(lonely: int, browser: Any) -> Any:
    """The browser at the page, where a stand-in answers in the service's place."""
    browser.get(f"http://127.0.0.1:{lonely}")
    browser.execute_script(STAND_IN)
    return browser


def test_page_is_about_the_recording_that_was_dropped_last(standing_in: Any) -> None:
    for number, name in enumerate(("slow.flac", "quick.flac"), start=1):
        drop(standing_in, FLAC, name)
        wait_for_questions(standing_in, number)
    answer(standing_in, 1, 200, answer_of(-1))
    wait_for_texts(standing_in, {"score -1.0000", "quick.flac"})
    answer(standing_in, 0, 200, answer_of(-2))
    wait_for_texts(standing_in, {"score -1.0000", "quick.flac"})
    drop(standing_in, FLAC, "slow.flac")
    wait_for_questions(standing_in, 3)
    drop(standing_in, FLAC, "bad.flac")
    wait_for_questions(standing_in, 4)
    answer(standing_in, 3, 400, '{"message": "audio: not base64"}')
    answer(standing_in, 2, 200, answer_of(-2))
    wait_for_texts(standing_in, {"audio: not base64", "bad.flac"})
    assert not standing_in.find_element("id", "charts").is_displayed()


def test_page_says_a_sentence_where_the_answer_is_no_json_or_the_file_is_too_large(
    standing_in: Any,
) -> None:
    texts = {
        504: ("Request processing time exceeded limit", "The service took too long"),
        415: ("This predictor only supports", "The service answered with status 415"),
        200: ("null", "The service answered with status 200"),
    }
    for number, (status, (text, sentence)) in enumerate(texts.items()):
        drop(standing_in, FLAC)
        wait_for_questions(standing_in, number + 1)
        answer(standing_in, number, status, text)
        wait_for_texts(standing_in, {sentence, "dropped.flac"})
    standing_in.execute_script("ask(new File([new ArrayBuffer(49 * 2 ** 20)], 'large.wav'))")
    wait_for_texts(standing_in, {"The recording has 49 MiB, expected less than 48", "large.wav"})
    assert standing_in.execute_script("return questions.length") == len(texts)


DECISION = {"probability_bonafide": 0.25, "llr": -1.5, "llr_threshold": -0.6, "calibration": "logistic"}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_every_window_and_its_texts_stand_out_in_both_themes(
    standing_in: Any, width: int, theme: str
) -> None:
    answers = [
        (200, answer_of(-1.25, 12, 24, decision="spoof", warnings="clipped", **DECISION)),
        (200, answer_of(-1.25, 1, 24, decision="bonafide", **DECISION)),
        (200, answer_of(-1e-5)),
        (400, json.dumps({"message": "audio: not base64"})),
    ]
    emulate(standing_in, width, theme)
    assert find_faint_texts(standing_in) == []
    for number, (status, text) in enumerate(answers):
        drop(standing_in, FLAC, f"{'long_' * 20}name.flac")
        wait_for_questions(standing_in, number + 1)
        answer(standing_in, number, status, text)
        assert find_overflow(standing_in) == [width]
        assert find_faint_texts(standing_in) == []
        if number == 0:
            assert len(standing_in.find_elements("css selector", "#layers li")) == 24
            sizes = "return [...document.querySelectorAll('svg text')].map(one => one.getBoundingClientRect().height)"
            assert min(standing_in.execute_script(sizes)) >= 12
            # Labels of the same axis do not run into each other.
            edges = standing_in.execute_script(
                "return [...document.querySelectorAll('svg .second')].map(one => one.getBoundingClientRect())"
                ".flatMap(box => [box.left, box.right])"
            )
            assert len(edges) >= 4
            assert edges == sorted(edges)


def test_page_is_used_by_keyboard_alone(standing_in: Any) -> None:
    script = "file.onclick = event => { event.preventDefault(); window.opened = (window.opened ?? 0) + 1; }"
    standing_in.execute_script(script)
    ActionChains(standing_in).send_keys(Keys.TAB).perform()
    style = "return getComputedStyle(document.getElementById('drop')).outlineStyle"
    assert standing_in.execute_script(style) == "solid"
    for count, key in enumerate((Keys.ENTER, Keys.SPACE), start=1):
        ActionChains(standing_in).send_keys(key).perform()
        assert standing_in.execute_script("return [document.activeElement.id, opened]") == ["file", count]


def test_page_does_not_move_where_the_reader_asked_for_that(standing_in: Any) -> None:
    drop(standing_in, FLAC)
    wait_for_texts(standing_in, {"Listening"})
    for motion, expected in (("no-preference", "wait"), ("reduce", "none")):
        features = [{"name": "prefers-reduced-motion", "value": motion}]
        standing_in.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        style = "return getComputedStyle(document.getElementById('verdict')).animationName"
        assert standing_in.execute_script(style) == expected


def test_recording_dropped_beside_the_field_is_asked_about_too(standing_in: Any) -> None:
    drop(standing_in, FLAC, "beside.flac", "details")
    wait_for_questions(standing_in, 1)
    answer(standing_in, 0, 200, answer_of(-1))
    wait_for_texts(standing_in, {"beside.flac", "score -1.0000"})


@pytest.mark.parametrize(
    ("content", "hop_s"),
    [
        (encode(made_speech(7, 16_000), 16_000, format="FLAC"), 3),
        (encode(np.zeros((200 * 8_000, 1)), 8_000, format="FLAC"), 20),
        (b"of no duration", 30),
    ],
)
def test_page_asks_for_some_ten_windows_however_long_the_recording_is(
    standing_in: Any, content: bytes, hop_s: int
) -> None:
    drop(standing_in, content)
    wait_for_questions(standing_in, 1)
    assert standing_in.execute_script("return questions[0].params.curve_hop_s") == hop_s
    answer(standing_in, 0, 200, answer_of(-1))
    wait_for_texts(standing_in, {f"one window every {hop_s} s"})


@pytest.fixture(scope="module")
def lonely() -> Iterator[int]:
    """The port of a page without a service."""
    command = [
        sys.executable,
        str(PROJECT_ROOT / "examples" / "page.py"),
        "http://127.0.0.1:9",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield int(re.search(r":(\d+)$", process.stdout.readline().strip()).group(1))
    finally:
        process.terminate()
        process.communicate(timeout=30)


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
    status, message = answers["/ask", "application/json"]
    assert status == 502
    assert f" http://127.0.0.1:{free} " in message
    assert answers["/ask", "text/plain"][0] == answers["/other", "application/json"][0] == 404
