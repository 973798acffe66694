"""A real Chromium without a window: Debian's ``chromium`` and ``chromium-driver``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import until

MISSING = "needs Debian's chromium and chromium-driver, and selenium"


class Browser:
    """One tab."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Leave what is open, and open a page of its own."""
        self.driver.get("about:blank")
        self.complaints()
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script's ``return``."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The text of every element."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", selector
        )
        return found

    def labels(self, kind: str) -> list[str]:
        """What a screen reader says about the nodes or links of the map, without the figures."""
        found = self.run(
            "return [...document.querySelectorAll(`[data-kind=${arguments[0]}]`)].map((one) => one.ariaLabel)", kind
        )
        return sorted(label.rpartition(": ")[0] for label in found)

    def click(self, selector: str) -> None:
        """Click the first element, once there is one."""
        self.until(selector)
        self.run(
            "document.querySelector(arguments[0]).dispatchEvent("
            "new MouseEvent('click', {bubbles: true, cancelable: true, button: 0}))",
            selector,
        )

    def press(self, *keys: str) -> None:
        """Keys, as the keyboard sends them to what has the focus."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def until(self, selector: str, text: str = "") -> str:
        """Wait for an element with a text; returns its whole text."""
        until(lambda: [one for one in self.texts(selector) if text in one], f"{selector} with {text!r}")
        return next(one for one in self.texts(selector) if text in one)

    @property
    def address(self) -> str:
        """Path and query."""
        found: str = self.run("return location.pathname + location.search")
        return found

    def complaints(self) -> list[str]:
        """What the browser logged since the last call: errors of scripts, and what the policy of the page stopped."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextlib.contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A tab of that size. Skips the test where there is no Chromium."""
    pytest.importorskip("selenium", reason=MISSING)
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(MISSING)
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    size = f"--window-size={width},{height}"
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", size, *sandbox):
        options.add_argument(argument)
    started = Chrome(options=options, service=ChromeService(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
