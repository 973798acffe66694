"""The page in a real Chromium over the demo: what a user does, with mouse and keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.sandbox.demo.demo import Demo
from flowmap.sandbox.demo.scenario import LINKS
from tests.support.browser import Browser, browser
from tests.support.waiting import until

TRUTH = sorted({f"{', '.join(link.deployments) or 'no deployment (unknown)'} to {link.service}" for link in LINKS})


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with Demo("127.0.0.1", 0) as running:
        yield running


def links(tab: Browser) -> list[str]:
    """The links of the map, names in the order of the truth; those of pending flows come and go."""
    shown = [label for label in tab.labels("link") if not label.startswith("pending")]
    return sorted(label.replace("session-report, session-alerts", "session-alerts, session-report") for label in shown)


def test_the_map_shows_the_truth_of_the_demo(tab: Browser, demo: Demo) -> None:
    tab.open(demo.url)
    until(lambda: links(tab) == TRUTH, "every link of the demo, and no other")
    tab.until("#pulse", "0 lost")
    until(lambda: tab.run("return Boolean(document.querySelector('[data-kind=link][aria-label*=receives]'))"), "rates")
    assert tab.run("return document.querySelectorAll('main table tbody tr').length") >= len(TRUTH)
    assert tab.complaints() == []


def test_from_the_filter_down_to_the_reason_and_back(tab: Browser, demo: Demo) -> None:
    tab.open(demo.url)
    tab.until("[data-kind=node]", "orders-archive")
    tab.press("/", *"archive")
    until(lambda: links(tab) == ["orders-archive to orders-kafka"], "the link of the filter")
    assert tab.address == "/?text=archive"
    assert tab.run("return document.activeElement.value") == "archive", "typing can go on"
    tab.driver.refresh()
    until(lambda: links(tab) == ["orders-archive to orders-kafka"], "the same view from the address bar")
    tab.click("[data-kind=link]")
    tab.until("main td", "127.")
    assert "view=connections" in tab.address and "peer=orders-kafka" in tab.address
    assert set(tab.texts("main tbody td:nth-child(2)")) == {"orders-archive"}
    tab.click("main tbody td:last-child a")
    tab.until(".result", "orders-archive")
    tab.until(".chain li", "Combined")
    tab.until(".chain h2", "Which deployments run at the client?")
    tab.driver.back()
    tab.until("main td", "127.")
    tab.press("\ue00c")  # Escape
    until(lambda: tab.address == "/", "the map again")
    assert tab.complaints() == []


def test_with_the_keyboard_alone(tab: Browser, demo: Demo) -> None:
    tab.open(demo.url)
    tab.until("[data-kind=node]", "orders-enrichment")
    tab.press("c")
    tab.until("main th", "Client")
    tab.press("s")
    tab.until("main h2", "Sources")
    tab.press("m")
    tab.until("[data-kind=node]", "orders-enrichment")
    tab.run("document.querySelector('[data-kind=node][tabindex=\"0\"]').focus()")
    first = tab.run("return document.activeElement.ariaLabel")
    tab.press("\ue015")  # down
    assert tab.run("return document.activeElement.ariaLabel") != first
    tab.press("\ue014")  # right: to a link
    assert " to " in tab.run("return document.activeElement.ariaLabel")
    assert tab.run("return document.querySelector('.hint').hidden") is False
    tab.press("\ue014", "\ue007")  # right: to the peer; Enter
    tab.until("main h1", "Peer")
    tab.press("p")
    tab.until("#pulse", "paused")
    tab.press("p")
    tab.until("#pulse", "live")
    assert tab.complaints() == []


def test_a_deployment_page(tab: Browser, demo: Demo) -> None:
    tab.open(demo.url)
    tab.until("[data-kind=node]", "orders-enrichment")
    tab.click("main tbody tr:has(td:first-child a bdi[title=orders-enrichment]) td:first-child a")
    tab.until("main h1", "orders-enrichment")
    tab.until("main td", "job-orders-enrichment")
    until(
        lambda: links(tab) == ["orders-enrichment to features-redis", "orders-enrichment to orders-kafka"], "its links"
    )
    tab.until(".chart figcaption", "received")
    tab.click(".facts dd a")
    until(lambda: "team%3Dorders" in tab.address, "the map of its label")


def test_dark_and_narrow(tab: Browser, demo: Demo) -> None:
    tab.open(demo.url)
    tab.until("[data-kind=node]", "orders-enrichment")
    colours = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        script = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        colours[scheme] = [sum(int(part) for part in one[4:-1].split(",")) for one in tab.run(script)]
    assert colours["light"][0] - colours["light"][1] > 300 and colours["dark"][1] - colours["dark"][0] > 300
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    tab.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    until(lambda: tab.run("return document.querySelector('.map svg').clientWidth") <= 360, "the map is drawn anew")
    assert tab.run("return document.documentElement.scrollWidth") <= 360
    tab.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
