"""What each key does, and what is on the screen: at 80 × 24 and less."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.cli.output.text import cells
from flowmap.cli.top.screen import ORDERS, Screen, merged
from flowmap.model.traffic_map import Figures, MapDeployment, MapLink, MapPeer, TrafficMap
from flowmap.serve.stream.deltas import MapDeltas
from tests.support.fake_backend import OWNER

STATUS = {
    "version": "1.2.3",
    "source": "conntrack",
    "openFlows": 1234,
    "pendingFlows": 5,
    "counterAgeSeconds": 12.3,
    "lost": 7,
    "overruns": 2,
    "shed": 0,
    "problems": ["Source conntrack: accounting is off"],
}


def figures(sent: int, received: int, opened: int = 1) -> Figures:
    return Figures(sent * 10, received * 10, float(sent), float(received), opened, opened)


def traffic(*names: tuple[str, str, int, int]) -> TrafficMap:
    """A map of links: deployment, peer, bytes a second in both directions."""
    deployments = dict.fromkeys(name for name, *_ in names)
    peers = dict.fromkeys(peer for _, peer, *_ in names)
    return TrafficMap(
        1.0,
        11.0,
        True,
        tuple(
            MapDeployment(f"d-{name}", "deployment", name, "", (OWNER._replace(deployment_id=name),), {}, figures(9, 9))
            for name in deployments
        ),
        tuple(MapPeer(f"p-{peer}", peer, "tcp", figures(3, 3)) for peer in peers),
        tuple(
            MapLink(f"d-{name}", f"p-{peer}", figures(sent, received, opened))
            for opened, (name, peer, sent, received) in enumerate(names)
        ),
        figures(1, 1),
    )


def event(found: TrafficMap, deltas: MapDeltas | None = None) -> dict[str, Any]:
    return (deltas or MapDeltas()).next(found).model_dump(mode="json", by_alias=True)


@pytest.fixture
def screen() -> Screen:
    made = Screen()
    made.take("status", STATUS)
    links = ("orders", "kafka", 1, 500), ("billing", "mysql", 900, 2), ("orders", "redis", 5, 5)
    made.take("map", event(traffic(*links)))
    return made


def shown(screen: Screen, width: int = 80, height: int = 24) -> list[str]:
    lines, _ = screen.lines(width, height)
    assert len(lines) <= height and all(cells(line) <= width for line in lines)
    return lines


def press(screen: Screen, *keys: str) -> None:
    for key in keys:
        screen.key(key)


def column(screen: Screen, name: str) -> list[str]:
    """A column of the table, from its header."""
    lines = shown(screen)
    at = lines[2].index(name)
    return [line[at:].split()[0] for line in lines[3:-1] if line.strip()]


def test_the_header_has_lateness_and_losses(screen: Screen) -> None:
    first, second, *_ = shown(screen)
    assert first == "flowmap 1.2.3  conntrack  1,234 flows open  5 pending  counters 12 s old"
    assert second.startswith("lost 7  overruns 2  shed 0  problems 1: Source conntrack: accounting")
    screen.take("missed", {"missed": 3})
    screen.take("status", STATUS | {"problems": []})
    assert shown(screen)[1].endswith("3 updates missed here")
    screen.problem = "no daemon answers"
    assert shown(screen)[1] == "NOT LIVE: no daemon answers"


def test_sorting(screen: Screen) -> None:
    orders = []
    for _ in ORDERS:
        orders.append((screen.order, column(screen, "PEER")))
        press(screen, "s")
    assert orders == [
        ("rate", ["mysql", "kafka", "redis"]),
        ("receiveRate", ["kafka", "redis", "mysql"]),
        ("transmitRate", ["mysql", "redis", "kafka"]),
        ("bytes", ["mysql", "kafka", "redis"]),
        ("openConnections", ["redis", "mysql", "kafka"]),
    ]
    assert screen.order == "rate" and screen.stream["order"] == "rate"


def test_sides(screen: Screen) -> None:
    assert column(screen, "DEPLOYMENT") == ["billing", "orders", "orders"]
    press(screen, "b")
    assert column(screen, "DEPLOYMENT") == ["orders", "billing"] and "PEER" not in shown(screen)[2]
    press(screen, "b")
    assert sorted(column(screen, "PEER")) == ["kafka", "mysql", "redis"] and "DEPLOYMENT" not in shown(screen)[2]
    press(screen, "b")
    assert screen.sides == ("deployment", "peer")


def test_a_filter_is_typed(screen: Screen) -> None:
    press(screen, "/", "k", "q", "erase", "a", "s")
    assert shown(screen)[-1] == "filter: kas_" and not screen.over and screen.order == "rate"
    press(screen, "enter")
    assert screen.stream["text"] == "kas" and "matching 'kas'" in shown(screen)[-1]
    press(screen, "/", "back")
    assert screen.stream["text"] == ""


def test_a_pause_keeps_what_is_shown(screen: Screen) -> None:
    press(screen, "p")
    screen.take("map", event(traffic(("other", "kafka", 1, 1))))
    assert "PAUSED" in shown(screen)[1] and "billing" in column(screen, "DEPLOYMENT")
    press(screen, "p")
    assert column(screen, "DEPLOYMENT") == ["other"]


FLOW = {
    "state": "attributed",
    "deployments": [{"name": "billing\x1b[2J"}],
    "client": {"ip": "10.0.0.1", "port": 4},
    "server": {"ip": "10.0.0.9", "port": 3306},
    "protocol": "tcp",
    "transmitBytes": 5,
    "receiveBytes": 6,
    "startedAt": None,
    "local": None,
}


def test_down_to_connections_and_an_explanation_and_back(screen: Screen) -> None:
    press(screen, "down", "up", "enter")
    assert screen.group is not None
    assert screen.group.filters == {"deployment": "billing", "state": "attributed", "peer": "mysql", "protocol": "tcp"}
    screen.connections = [FLOW, {**FLOW, "client": {"ip": "10.0.0.2", "port": 5}}]
    assert column(screen, "CLIENT") == ["10.0.0.1:4", "10.0.0.2:5"]
    assert "\x1b" not in "".join(shown(screen)) and "connections of billing to mysql" in shown(screen)[-1]
    press(screen, "down", "enter")
    assert screen.mode == "explain" and screen.explained is screen.connections[1]
    screen.explanation = [f"line {number}" for number in range(50)]
    assert shown(screen)[2] == "Why 10.0.0.2:5 -> 10.0.0.9:3306" and "line 0" in shown(screen)
    press(screen, "end")
    assert "line 49" in shown(screen) and "line 0" not in shown(screen)
    press(screen, "home", "back", "back")
    assert column(screen, "PEER") == ["mysql", "kafka", "redis"]


def test_others_have_no_connections() -> None:
    made = Screen(sides=("peer",))
    found = event(traffic(("a", "kafka", 1, 1)))
    found["peers"][0]["folded"] = 12
    made.take("map", found)
    assert column(made, "PEER") == ["(12"]
    press(made, "enter")
    assert made.mode == "groups"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 8), (200, 60), (81, 9)])
def test_every_size(screen: Screen, width: int, height: int) -> None:
    long = "订" * 40
    screen.take("map", event(traffic(*((f"{long}{number}", f"peer-{number}", number, 1) for number in range(90)))))
    press(screen, "end")
    lines, selected = screen.lines(width, height)
    assert "peer-0" in lines[selected] or width < 80
    assert 3 <= selected < height - 1
    press(screen, "home")
    assert screen.lines(width, height)[1] == 3
    press(screen, "page down", "page down", "up")
    assert 3 <= screen.lines(width, height)[1] < height - 1
    press(screen, "?")
    assert "Keys" in shown(screen, width, height)[2]
    press(screen, "q")
    assert screen.over


def test_deltas_give_the_map() -> None:
    deltas = MapDeltas()
    maps = [traffic(("a", "x", 1, 1)), traffic(("a", "x", 2, 1), ("b", "y", 1, 1)), traffic(("b", "x", 4, 4))]
    known = event(maps[0], deltas)
    for found in maps[1:]:
        known = merged(known, event(found, deltas))
        whole = event(found)
        assert known["deployments"] == whole["deployments"] and known["peers"] == whole["peers"]
        assert sorted(known["links"], key=str) == sorted(whole["links"], key=str)
