"""The page in Chromium over a backend with hostile names, a past, and faults: ``python -m pytest -m browser``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from flowmap.model.traffic_map import MapDeployment, MapLink, MapPeer, TrafficMap
from tests.support.browser import Browser, browser
from tests.support.certificates import HASH, PASSWORD
from tests.support.fake_backend import FIGURES, MAP, OWNER
from tests.support.served import Served, served
from tests.support.waiting import until
from tests.support.whole_daemon import in_thread

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def daemon() -> Iterator[Served]:
    with in_thread(served) as made:
        yield made


HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>",
    "\u202egnp.exe\u2066\x1b[31m\0",
    "x" * 10_000,
    "\u05d0\u05d1\u05d2 / kafka",
    "",
]


def hostile_map(name: str) -> TrafficMap:
    owner = OWNER._replace(name=name, namespace=name)
    node = MapDeployment("d", "deployment", name, "", (owner,), {name: name}, FIGURES)
    other = MapDeployment("e", "unattributed", "no deployment", name, (), {}, FIGURES)
    peer, links = MapPeer("p", name, name, FIGURES), (MapLink("d", "p", FIGURES), MapLink("e", "p", FIGURES))
    return replace(MAP, deployments=(node, other), peers=(peer,), links=links, namespaces=(name, "n"))


def test_hostile_names_are_text(tab: Browser, daemon: Served) -> None:
    for name in HOSTILE:
        daemon.backend.map = hostile_map(name)
        tab.open(daemon.server.url)
        tab.until("[data-kind=node]", "no deployment")
        assert tab.run("return document.title") == "flowmap"
        assert tab.run("return document.querySelectorAll('main img, main script, main iframe').length") == 0
        assert tab.run("return document.documentElement.scrollWidth <= innerWidth")
        shown = tab.run("return document.querySelector('main').textContent")
        assert not set(shown) & set("\u202e\u2066\x1b\0")
        assert len(shown) < 20_000
    assert tab.complaints() == []


def test_a_window_of_the_past_and_what_changed(tab: Browser, daemon: Served) -> None:
    tab.open(daemon.server.url)
    tab.until("[data-kind=node]", "orders")
    before = replace(MAP.links[0], change="new", before=FIGURES)
    daemon.backend.map = replace(MAP, live=False, links=(before, replace(MAP.links[1], before=FIGURES)), new=1)
    tab.until(".filters option", "Last hour")
    tab.run(
        "const menu = document.querySelector('.filters option[value=\"1h\"]').parentElement;"
        "menu.value = '1h'; menu.dispatchEvent(new Event('change'))"
    )
    tab.until(".summary", "connections that were open between")
    assert tab.address == "/?from=1h"
    tab.click(".check input")
    tab.until(".badge.new", "new")
    assert "compare=1" in tab.address and "1 new and 0 gone" in tab.until(".summary", "new")
    window, earlier = daemon.backend.asked[-1][1:]  # type: ignore[index]
    assert window[0] == pytest.approx(earlier[1], abs=5) and window[1] - window[0] == pytest.approx(3600, abs=5)
    assert earlier[1] - earlier[0] == pytest.approx(3600, abs=5)
    assert tab.complaints() == []


def test_a_window_that_is_not_in_the_menu(tab: Browser, daemon: Served) -> None:
    tab.open(f"{daemon.server.url}/?from=3h")
    tab.until(".filters option", "Last 3h")
    assert tab.run("return [...document.querySelectorAll('.filters select')].pop().value") == "3h"
    tab.open(f"{daemon.server.url}/?from=1700000000&to=1h")
    tab.until(".filters label", "From")
    shown = "return [...document.querySelectorAll('[type=datetime-local]')].map((one) => Date.parse(one.value) / 1000)"
    since, until_ = tab.run(shown)
    assert since == pytest.approx(1_700_000_000, abs=60) and until_ == pytest.approx(time.time() - 3600, abs=90)
    assert tab.complaints() == []


def test_connections_of_a_unit_and_what_went_wrong(tab: Browser, daemon: Served) -> None:
    tab.open(f"{daemon.server.url}/?view=connections")
    tab.until("main td", "kafka.service")
    tab.until("main th", "On this host")
    tab.click("[data-param=unit]")
    tab.run("document.querySelector('[data-param=unit]').focus()")
    tab.press(*"kafka.service")
    until(lambda: tab.address == "/?view=connections&unit=kafka.service", "the filter in the address")
    until(lambda: str(daemon.backend.asked[-1]).count("unit='kafka.service'") == 1, "the filter reaches the daemon")
    assert tab.complaints() == []
    tab.open(f"{daemon.server.url}/?view=connections&client=nonsense")
    tab.until("#notice", "client")
    tab.until("#pulse", "live")
    assert "client" in tab.until("#notice"), "an update of the stream takes no complaint about a question back"
    tab.complaints()


def test_the_health_of_a_deployment(tab: Browser, daemon: Served) -> None:
    tab.open(f"{daemon.server.url}/?view=deployment&deployment=id-1")
    tab.until("main h2", "Health of TCP")
    tab.until("main td", "13 ms")  # 0.0125 s
    assert "3" in tab.texts("main td.n")
    assert tab.complaints() == []


def test_a_paused_page_shows_each_view_once(tab: Browser, daemon: Served) -> None:
    tab.open(daemon.server.url)
    tab.until("[data-kind=node]", "orders")
    tab.press("p")
    until(lambda: daemon.streams.readers == 0, "nothing is read")
    tab.open(daemon.server.url)  # not paused: the page was loaded again
    tab.until("[data-kind=node]", "orders")
    tab.press("p", "s")
    tab.until("main h2", "Sources")
    tab.press("m")
    tab.until("[data-kind=node]", "orders")
    tab.until("#pulse", "paused")
    until(lambda: daemon.streams.readers == 0, "still nothing is read")
    assert tab.complaints() == []


def test_updates_that_were_missed_are_told(tab: Browser, daemon: Served) -> None:
    real = daemon.backend.traffic_map

    async def slow(*asked: object, **more: object) -> TrafficMap:
        await asyncio.sleep(2.5)
        return await real(*asked, **more)  # type: ignore[arg-type]

    daemon.backend.traffic_map = slow  # type: ignore[method-assign]
    tab.open(daemon.server.url)
    tab.until("#pulse", "updates missed here")


def test_a_daemon_that_restarts_and_a_stream_that_breaks_off(tab: Browser) -> None:
    with in_thread(served) as first:
        port = int(first.server.address.rpartition(":")[2])
        tab.open(first.server.url)
        tab.until("[data-kind=node]", "orders")
    tab.until("#notice", "The page asks again.")
    tab.until("#pulse", "reconnecting")
    with in_thread(lambda: served(port=port)) as second:
        tab.until("#pulse", "live")
        assert tab.run("return document.getElementById('notice').hidden")
        assert second.streams.readers == 1
        tab.open("about:blank")
        until(lambda: second.streams.readers == 0, "a page that is left stops reading")
    tab.complaints()


def test_signed_in_and_no_longer(tab: Browser) -> None:
    with in_thread(lambda: served(users={"ann": HASH})) as made:
        tab.open(made.server.url)
        tab.open(made.server.url.replace("http://", f"http://ann:{quote(PASSWORD)}@"))
        tab.until("[data-kind=node]", "orders")
        made.sign_out()
        tab.until("#pulse", "no update for")  # the browser asks for a password
        until(lambda: made.streams.readers == 0, "nothing is read")
        tab.open("about:blank")
    tab.complaints()
