"""A small fleet: daemons in namespaces, each with a history, send to one ClickHouse (its engine, a stand-in each).

Both hosts of every connection report it, and some addresses are translated on the way. Each connection must count once,
and the sums must be those that the kernel (nftables) counted on the server's host.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse.engine import Engine
from tests.clickhouse.stand_in import StandIn
from tests.support.host import Daemon, Host, deployment, host, total_of
from tests.support.netns import Namespace, connect, namespace, needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

ORDERS, SERVER_OF_ORDERS, VIP = "10.78.0.1", "10.78.0.2", "10.78.9.9"
POD, ROUTER, SERVER_OF_POD = "10.79.0.1", "10.80.0.1", "10.80.0.2"
PORT = 9092
CATALOG = [
    deployment("orders", ORDERS, f"{SERVER_OF_ORDERS}:{PORT}"),
    deployment("archive", POD, f"{SERVER_OF_POD}:{PORT}"),
]
COUNTERS = f"""
table ip oracle {{
  counter up {{}}
  counter down {{}}
  chain in {{ type filter hook input priority 10; tcp dport {PORT} counter name up; }}
  chain out {{ type filter hook output priority 10; tcp sport {PORT} counter name down; }}
}}
"""


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    made.make_tables()
    yield made
    made.close()


class Fleet:
    """Three hosts: the client's, a router that hides a pod, and the server's."""

    def __init__(self, hosts: dict[str, Host], pod: Host, engine: Engine) -> None:
        self.hosts, self.pod, self.engine = hosts, pod, engine
        self.stand_ins: dict[str, StandIn] = {}

    @contextmanager
    def daemons(self) -> Iterator[dict[str, Daemon]]:
        with ExitStack() as stack:
            running = {}
            for name, machine in self.hosts.items():
                with machine.inside.entered():
                    self.stand_ins[name] = StandIn(self.engine)
                stack.callback(self.stand_ins[name].close)
                store = {"url": self.stand_ins[name].url, "database": self.engine.database, "host": name}
                history = {"path": str(machine.directory / "history.db"), "clickhouse": store}
                running[name] = stack.enter_context(machine.daemon(history=history))
            yield running

    def sums(self) -> tuple[int, int, int]:
        """Connections, and bytes each way, of all hosts, each connection once."""
        window = f"since = toDateTime64({time.time() - 3600}, 6), until = toDateTime64({time.time() + 60}, 6)"
        sums = "count(), sum(transmit_bytes), sum(receive_bytes)"
        (row,) = self.engine.rows(f"SELECT {sums} FROM connections({window}) WHERE server_port IN ({PORT}, 80)")
        return int(row[0]), int(row[1]), int(row[2])

    def counted(self) -> tuple[int, int]:
        """Bytes each way as nftables counted them on the server's host."""
        listing = json.loads(self.hosts["server"].inside.run("nft", "-j", "list", "counters"))["nftables"]
        found = {one["counter"]["name"]: one["counter"]["bytes"] for one in listing if "counter" in one}
        return found["up"], found["down"]


@pytest.fixture
def fleet(tmp_path: Path, engine: Engine) -> Iterator[Fleet]:
    with ExitStack() as stack:
        hosts = {}
        for name in ("client", "router", "server"):
            (tmp_path / name).mkdir()
            hosts[name] = stack.enter_context(host(tmp_path / name, [], CATALOG))
        inside = stack.enter_context(namespace())
        wire({name: machine.inside for name, machine in hosts.items()}, inside)
        (tmp_path / "pod").mkdir()
        pod = Host(inside, hosts["router"].sandbox, tmp_path / "pod")
        server = hosts["server"]
        for address in (SERVER_OF_ORDERS, SERVER_OF_POD):
            stack.enter_context(server.service(address, PORT))
        server.inside.nft(COUNTERS)
        yield Fleet(hosts, pod, engine)


def wire(hosts: dict[str, Namespace], pod: Namespace) -> None:
    """The client's host has a service address, translated there; the router hides the pod behind its own address."""
    connect(hosts["client"], hosts["server"], "left", "one")
    connect(hosts["router"], hosts["server"], "outer", "two")
    connect(hosts["router"], pod, "inner", "eth0")
    hosts["client"].address("left", f"{ORDERS}/24")
    hosts["server"].address("one", f"{SERVER_OF_ORDERS}/24")
    hosts["server"].address("two", f"{SERVER_OF_POD}/24")
    hosts["router"].address("outer", f"{ROUTER}/24")
    hosts["router"].address("inner", "10.79.0.254/24")
    pod.address("eth0", f"{POD}/24")
    pod.run("ip", "route", "add", "default", "via", "10.79.0.254")
    hosts["client"].run("ip", "route", "add", f"{VIP}/32", "dev", "left")
    hosts["client"].nft(
        "table ip shift { chain out { type nat hook output priority -100; "
        f"ip daddr {VIP} tcp dport 80 dnat to {SERVER_OF_ORDERS}:{PORT}; }}; }}\n"
    )
    hosts["router"].sysctl("net.ipv4.ip_forward", 1)
    hosts["router"].nft(
        "table ip hide { chain out { type nat hook postrouting priority 100; oifname outer masquerade; }; }\n"
    )


def test_sums_over_the_fleet_are_what_the_kernel_counted(fleet: Fleet) -> None:
    with fleet.daemons() as daemons:
        fleet.stand_ins["client"].faults.extend(["lost reply"] * 3)
        fleet.stand_ins["server"].faults.extend(["500", "reset", "lost reply"])
        for n in range(30):
            fleet.hosts["client"].exchange(ORDERS, SERVER_OF_ORDERS, PORT, 1000 + n)
        for n in range(20):
            fleet.hosts["client"].exchange(ORDERS, VIP, 80, 2000 + n)
            fleet.pod.exchange(POD, SERVER_OF_POD, PORT, 3000 + n)
        until(lambda: fleet.sums()[0] == 70, "every connection is there, once", seconds=90)
        until(lambda: sent(daemons) == {"client": 50, "router": 20, "server": 70}, "every end, too", seconds=90)
        assert fleet.sums() == (70, *fleet.counted())
        by_name: list[list[Any]] = fleet.engine.rows(
            "SELECT deployments, count() FROM connections(since = now() - 3600, until = now() + 60) "
            f"WHERE server_port IN ({PORT}, 80) GROUP BY deployments ORDER BY deployments"
        )
        assert [[*map(key, owners), count] for owners, count in by_name] == [["id-archive", 20], ["id-orders", 50]]
        failures = sum(total_of(daemon.samples(), "flowmap_store_failures_total") for daemon in daemons.values())
        assert failures >= 4, "the faults were met"
        for daemon in daemons.values():
            assert daemon.stop() == 0
        behind = "SELECT host FROM hosts WHERE complete_until < now64(6) + toIntervalDay(1)"
        assert fleet.engine.rows(behind) == [], "they were stopped and have sent everything"


def sent(daemons: dict[str, Daemon]) -> dict[str, int]:
    return {name: total_of(daemon.samples(), "flowmap_store_flows_sent_total") for name, daemon in daemons.items()}


def key(owner: str) -> str:
    return owner.rpartition("/")[2]
