"""Listing flows part by part, and following them."""

from __future__ import annotations

import argparse
import json
from typing import Any

import httpx
import pytest

from flowmap.cli import command
from flowmap.cli.output.text import print_table
from flowmap.cli.shared.client import DaemonClient
from flowmap.cli.traffic import flows
from flowmap.model.deployment import State

Flow = dict[str, Any]


def flow(port: int, **changes: Any) -> Flow:
    plain = {
        "protocol": "tcp",
        "client": {"ip": "10.0.0.1", "port": port},
        "server": {"ip": "2001:db8::1", "port": 9092},
        "startedAt": "2026-11-21T20:16:07.000Z",
        "endedAt": None,
        "transmitBytes": 1234,
        "receiveBytes": 0,
        "state": "attributed",
        "deployments": [{"deploymentId": "1", "name": "orders\x1b[2J"}],
    }
    return plain | changes


class Daemon:
    """Gives out ``looks``, one list of flows after the other, in parts of at most two."""

    def __init__(self, *looks: list[Flow]) -> None:
        self.looks = list(looks)
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.asked.append(query)
        start = int(query.get("cursor", 0))
        stop = start + min(2, int(query["limit"]))
        here = self.looks[0]
        if stop >= len(here) and len(self.looks) > 1:
            self.looks.pop(0)
        cursor = str(stop) if stop < len(here) else None
        return httpx.Response(200, json={"flows": here[start:stop], "nextCursor": cursor})

    def client(self) -> DaemonClient:
        return DaemonClient("http://daemon", transport=httpx.MockTransport(self))


FETCHES = [
    # flows there are, limit: flows given, whether there are more
    (0, 5, 0, False),
    (1, 5, 1, False),
    (5, 5, 5, False),
    (5, 100, 5, False),
    (5, 4, 4, True),
    (5, 3, 3, True),
    (5, 1, 1, True),
]


@pytest.mark.parametrize(("there", "limit", "given", "more"), FETCHES)
def test_fetch(there: int, limit: int, given: int, more: bool) -> None:
    every = [flow(port) for port in range(1, there + 1)]
    daemon = Daemon(every)
    with daemon.client() as client:
        assert flows.fetch(client, {"state": "attributed", "peer": None}, limit) == (every[:given], more, [])
    assert all(query["state"] == "attributed" and "peer" not in query for query in daemon.asked)


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_a_filter(state: State) -> None:
    parser = argparse.ArgumentParser()
    flows.add_arguments(parser)
    assert parser.parse_args(["--state", state]).state == state


def test_a_row_shows_what_matters_and_obeys_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(flows.HEADER, [flows.row(flow(5)), flows.row(flow(6, state="unknown", deployments=[]))])
    _, first, second = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert first == r"attributed orders\x1b[2J 10.0.0.1:5 [2001:db8::1]:9092 tcp 1.2 kB 0 B 11-21 20:16:07 -"
    assert second.startswith("unknown - 10.0.0.1:6")


NOTHING = dict.fromkeys(("container", "containerName", "pod", "podName", "unit", "runtime", "cgroup", "pid", "command"))
LOCALS = [
    (None, None),
    (NOTHING, "unknown"),
    (NOTHING | {"container": "0123456789abcdef", "unit": "docker-x.scope"}, "0123456789ab"),
    (NOTHING | {"container": "0123456789abcdef", "containerName": "taskmanager"}, "taskmanager"),
    (NOTHING | {"unit": "kafka.service", "pid": 812, "command": "java"}, "kafka.service java[812]"),
    (NOTHING | {"pid": 812}, "?[812]"),
]


@pytest.mark.parametrize(("local", "shown"), LOCALS)
def test_workload_in_few_words(local: dict[str, Any] | None, shown: str | None) -> None:
    assert flows.workload(local) == shown


HOSTS = [
    # host and side of each observation: what is shown
    ([("a", "client"), ("b", "server")], "a > b"),
    ([("a", "client")], "a > ?"),
    ([("b", "server"), ("a", None)], "? > b, a"),
    ([("a", None), ("b", None)], "a, b"),
]


@pytest.mark.parametrize(("observations", "shown"), HOSTS)
def test_hosts_that_saw_a_flow(observations: list[tuple[str, str | None]], shown: str) -> None:
    listed = [{"host": host, "side": side} for host, side in observations]
    assert flows.hosts_of({"observations": listed}) == shown


def events(*updates: tuple[str, Any]) -> bytes:
    """A stream with these events."""
    return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in updates)


def streaming(monkeypatch: pytest.MonkeyPatch, *streams: bytes) -> list[dict[str, str]]:
    """The daemon gives these streams, one after the other, and then refuses; returns what was asked."""
    asked: list[dict[str, str]] = []
    left = list(streams)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        if not left:
            return httpx.Response(503, json={"detail": "Too many streams; close one, or try again."})
        return httpx.Response(200, content=left.pop(0), headers={"content-type": "text/event-stream"})

    client = DaemonClient("http://daemon", transport=httpx.MockTransport(answer))
    monkeypatch.setattr("flowmap.cli.shared.client.DaemonClient", lambda *_, **__: client)
    return asked


def test_follow_prints_what_is_new_changed_or_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = streaming(
        monkeypatch,
        events(
            ("flows", {"flows": [flow(1), flow(2, state="pending")], "gone": [], "leftOut": 0}),
            ("missed", {"missed": 3}),
            ("flows", {"flows": [flow(2, state="unknown"), flow(3)], "gone": [flow(1)], "leftOut": 5}),
        ),
        events(("flows", {"flows": [flow(3), flow(4)], "gone": [], "leftOut": 0})),
    )
    assert command.main(["flows", "--follow", "--peer", "p", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    seen = [json.loads(line) for line in out.splitlines()]
    assert [(one["client"]["port"], one["state"], one.get("gone", False)) for one in seen] == [
        (1, "attributed", False),
        (2, "pending", False),
        (2, "unknown", False),
        (3, "attributed", False),
        (1, "attributed", True),
        (4, "attributed", False),
    ]
    assert asked[0] == {"peer": "p", "events": "flows", "flowLimit": "100"}
    assert err.splitlines() == [
        "flowmap: 3 updates missed: this reader is too slow",
        "flowmap: 5 more flows changed; use --limit for more",
        "flowmap: Too many streams; close one, or try again.",
    ]


def test_follow_as_a_table_has_one_header(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    update = {"flows": [flow(1)], "gone": [], "leftOut": 0}
    streaming(monkeypatch, events(("flows", update), ("flows", {"flows": [], "gone": [flow(1)], "leftOut": 0})))
    assert command.main(["flows", "--follow", "-o", "table"]) == 1
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["STATE", "attributed", "gone"]
