"""History with the real daemon on real traffic: through a restart, and asked about the past."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import WORKSPACE, Daemon, Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, PORT = "10.77.1.10", 9092
ORDERS, ARCHIVE, STRANGER = "10.77.0.11", "10.77.0.12", "10.77.0.99"
CLIENTS = (ORDERS, ARCHIVE, STRANGER)
END = f"{SERVICE}:{PORT}"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    addresses = [f"{address}/32" for address in (SERVICE, ORDERS, ARCHIVE, STRANGER)]
    catalog = [deployment("orders", ORDERS, END), deployment("archive", ARCHIVE, END)]
    with host(tmp_path, addresses, catalog) as made, made.service(SERVICE, PORT):
        yield made


def owner_at(daemon: Daemon, moment: float, source: str = ORDERS, port: int | None = None) -> Any:
    client = f"srcIp={source}" + (f"&srcPort={port}" if port else "")
    return daemon.json(f"/api/v1/attribution?{client}&dstIp={SERVICE}&dstPort={PORT}&at={moment:.3f}")


def names(answer: Any) -> list[str]:
    return [one["name"] for one in answer["deployments"]]


def decided(daemon: Daemon, *peers: socket.socket) -> bool:
    """Whether every open flow has a decision; its client says something meanwhile, as rule "inside" wants."""
    for peer in peers:
        peer.sendall(b"x" * 100)
    flows = daemon.json("/api/v1/flows")["flows"]
    return len(flows) >= len(peers) and all(flow["state"] != "pending" for flow in flows)


def test_history_survives_a_restart(machine: Host, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "history.db"
    path.parent.mkdir()
    history: dict[str, Any] = {
        "history": {"path": str(path)},
        "attribute": {"positive_ttl": "300s", "negative_ttl": "300s"},
    }
    with ExitStack() as stack:
        peers = [stack.enter_context(machine.connection(client, SERVICE, PORT)) for client in CLIENTS]
        port, before = peers[0].getsockname()[1], time.time()
        with machine.daemon(**history) as daemon:
            until(lambda: decided(daemon, *peers), "all connections have an owner, or none")
            for peer in peers[1:]:
                peer.close()
            until(lambda: len(daemon.json("/api/v1/flows?from=1h")["flows"]) == 3, "two are over")
            until(lambda: len(daemon.json("/api/v1/flows")["flows"]) == 1, "and left the table")
            during = time.time()
            assert daemon.stop() == 0
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with machine.daemon(**history) as daemon:
            until(lambda: daemon.json("/api/v1/flows")["flows"], "the open connection is seen again")
            for client in CLIENTS:
                machine.exchange(client, SERVICE, PORT, 100)
            until(
                lambda: total_of(daemon.samples(), "flowmap_pending_flows") <= 1, "new answers decide all but the idle"
            )
            answer = owner_at(daemon, during, port=port)
            assert (names(answer), answer["flow"]["endedAt"]) == (["orders"], None)
            assert {piece["origin"] for piece in answer["evidence"]} == {"history"}
            listed = daemon.json(f"/api/v1/flows?from={before:.3f}&to={during:.3f}&deployment=archive")["flows"]
            assert len(listed) == 1 and listed[0]["receiveBytes"] > 200
            assert owner_at(daemon, before - 60)["state"] == "unknown"
            assert daemon.stop() == 0


def test_a_connection_that_was_over_before_a_restart_is_in_the_history_once(machine: Host, tmp_path: Path) -> None:
    """The kernel keeps its entry for two minutes, and the next daemon sees it."""
    history: dict[str, Any] = {"history": {"path": str(tmp_path / "history.db")}}
    machine.inside.sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", 25)
    with machine.daemon(**history) as daemon:
        for _ in range(5):
            machine.exchange(ORDERS, SERVICE, PORT, 100)
        until(lambda: len(daemon.json("/api/v1/flows")["flows"]) == 5, "they are seen")
        assert daemon.stop() == 0
    machine.exchange(STRANGER, SERVICE, PORT, 100)  # no daemon sees it: the next one finds its entry
    with machine.daemon(**history) as daemon:
        until(lambda: len(daemon.json("/api/v1/flows")["flows"]) == 6, "all entries are still there")
        until(lambda: not daemon.json("/api/v1/flows")["flows"], "and end")
        kept = daemon.json("/api/v1/flows?from=1h")["flows"]
        found = sorted((flow["client"]["ip"], flow["startedAt"] is None, flow["receiveBytes"] > 200) for flow in kept)
        assert found == [(ORDERS, False, True)] * 5 + [(STRANGER, True, False)]
        assert daemon.stop() == 0


def test_a_closed_connection_keeps_its_owner(machine: Host, tmp_path: Path) -> None:
    history: dict[str, Any] = {"history": {"path": str(tmp_path / "history.db")}}
    with machine.daemon(**history) as daemon:
        peer = machine.connection(STRANGER, SERVICE, PORT)
        ends = f"srcIp={STRANGER}&srcPort={peer.getsockname()[1]}&dstIp={SERVICE}&dstPort={PORT}"
        until(lambda: decided(daemon, peer), "it is unowned")
        peer.close()
        until(lambda: not daemon.json("/api/v1/flows")["flows"], "it left the table")
        machine.sandbox.set_catalog({"workspace": WORKSPACE, "deployments": [deployment("next", STRANGER, END)]})
        answer = daemon.json(f"/api/v1/attribution?{ends}")
        assert (answer["state"], names(answer)) == ("unknown", [])
        assert "this connection is closed" in answer["cause"] and answer["flow"]["endedAt"]
        assert daemon.stop() == 0


def test_new_and_vanished_peers(machine: Host, tmp_path: Path) -> None:
    history: dict[str, Any] = {"history": {"path": str(tmp_path / "history.db")}}
    with machine.daemon(**history) as daemon, machine.service(SERVICE, PORT + 1):
        began = time.time()
        machine.exchange(ORDERS, SERVICE, PORT, 100)
        path = "/api/v1/deployments/orders/peers"
        until(lambda: daemon.json(f"{path}?from=1h")["peers"], "the first peer is in the history")
        middle = time.time()
        time.sleep(0.2)
        (seen,) = daemon.json(f"{path}?from={began:.3f}&to={middle:.3f}")["peers"]
        assert (seen["peer"], seen["traffic"]["connections"]) == (END, 1)
        changes = daemon.json(f"{path}/changes?from={middle + 0.1:.3f}&beforeFrom={began:.3f}&beforeTo={middle:.3f}")
        assert [peer["peer"] for peer in changes["vanished"]] == [END]
        assert changes["new"] == []
        assert daemon.stop() == 0
