"""Takes a picture of the view in which the recipes stand side by side, as a browser shows it.

    make demo && make ui      # in another terminal; prints LINK
    python -m benchmarks.compare_view LINK benchmarks/results/compare_view.png

Needs chromium and chromedriver (Debian: chromium, chromium-driver) and the test environment.
"""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

VIEW_S = 120
SETTLE_S = 5
# The assistant of the UI opens itself on a browser's first visit and takes a third of the window.
NO_ASSISTANT = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
"""
# Without a mouse, the tools of each chart show all the time and hide it; the menu leaves no room for their names.
NO_TOOLS = """
const style = document.createElement('style');
style.textContent = '.modebar, [data-assistant-ui] { display: none !important }';
document.head.appendChild(style);
document.querySelector('[aria-label="Toggle sidebar"]')?.click();
"""
LAST_SECTION = """
const sections = [...document.querySelectorAll('.du-bois-light-collapse-item')];
const ends = sections.map(one => one.getBoundingClientRect().bottom);
return Math.max(...ends.filter(end => end <= innerHeight)) || innerHeight;
"""


@contextmanager
def headless_browser(width: int = 1500, height: int = 1000) -> Iterator[Any]:
    """A headless chromium, for as long as a `with` block lasts."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    # A container's root has neither a sandbox nor a large /dev/shm.
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--window-size={width},{height}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(
        options=options, service=Service(shutil.which("chromedriver") or "chromedriver")
    )
    try:
        yield driver
    finally:
        driver.quit()


def open_view(driver: Any, link: str) -> None:
    """Opens a link of the tracking UI, with nothing but what it leads to in the window."""
    driver.get(link)
    driver.execute_script(NO_ASSISTANT)
    driver.refresh()


def wait_for_texts(driver: Any, texts: set[str]) -> None:
    """Waits until a page shows all of some texts.

    Raises:
        TimeoutException: it does not; the message says what it shows.
    """
    from selenium.common.exceptions import TimeoutException

    deadline = time.monotonic() + VIEW_S
    while time.monotonic() < deadline:
        shown = driver.execute_script("return document.body.innerText")
        if all(text in shown for text in texts):
            return
        time.sleep(0.5)
    missing = sorted(text for text in texts if text not in shown)
    raise TimeoutException(f"the page does not show {missing}; it shows: {shown[:2000]}")


@click.command()
@click.argument("link")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--width", default=1600, show_default=True)
@click.option("--height", default=1760, show_default=True)
def main(link: str, output: Path, width: int, height: int) -> None:
    """Opens LINK and writes what is seen to OUTPUT, a PNG file, down to the last track that is seen whole."""
    with headless_browser(width, height) as driver:
        open_view(driver, link)
        wait_for_texts(driver, {"Group: v1", "Group: v2", "LA/eer_percent"})
        driver.execute_script(NO_TOOLS)
        time.sleep(SETTLE_S)
        clip = {"x": 0, "y": 0, "width": width, "height": driver.execute_script(LAST_SECTION), "scale": 1}
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
        output.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()
