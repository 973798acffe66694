"""Process lists of real servers, piped through ``flowmap who`` while the daemon sees the connections.

Needs root and Debian's mariadb-server, postgresql and redis-server; skipped, with what is missing, otherwise.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.process_lists import servers
from tests.process_lists.servers import Server
from tests.support.host import Daemon, Host, deployment, host
from tests.support.netns import Namespace, needs_root
from tests.support.waiting import until

pytestmark = [
    pytest.mark.kernel,
    needs_root,
    pytest.mark.skipif(bool(servers.missing()), reason=f"not installed: {servers.missing()}"),
]

SERVER = "10.77.1.10"
PORTS = (3306, 5432, 6379)
OWNERS = {f"10.77.0.{n}": f"job-{n}" for n in range(11, 17)}
STRANGERS = ("10.77.0.98", "10.77.0.99")
CLIENTS = (*OWNERS, *STRANGERS)
CONNECTIONS = 100


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    services = [f"{SERVER}:{port}" for port in PORTS]
    catalog = [deployment(name, address, *services) for address, name in OWNERS.items()]
    addresses = [f"{address}/32" for address in (SERVER, *CLIENTS)]
    with host(tmp_path_factory.mktemp("who"), addresses, catalog) as made:
        yield made


def who(machine: Host, daemon: Daemon, text: str, *arguments: str) -> str:
    url = f"http://127.0.0.1:{daemon.port}"
    command = [sys.executable, "-m", "flowmap", "who", "--url", url, *arguments]
    with machine.inside.entered():
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("start", [servers.mariadb, servers.postgresql, servers.redis])
def test_each_line_is_right(machine: Host, start: Callable[[Namespace, str], AbstractContextManager[Server]]) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(machine.daemon())
        server = stack.enter_context(start(machine.inside, SERVER))
        truth: dict[tuple[str, int], str] = {}  # several clients can have the same port
        for number in range(CONNECTIONS):
            source = CLIENTS[number % len(CLIENTS)]
            peer = stack.enter_context(machine.connection(source, SERVER, server.port))
            server.log_in(peer)
            truth[peer.getsockname()] = OWNERS.get(source, "no deployment")
        until(lambda: decided(daemon, CONNECTIONS), "every connection is decided")
        printed = server.listing(machine.inside)
        told = who(machine, daemon, printed).splitlines()
        assert [line.partition("  => ")[0] for line in told] == printed.splitlines(), "nothing else is changed"
        right = 0
        for line in told:
            before, mark, owner = line.partition("  => ")
            clients = [end for end in truth if re.search(rf"{re.escape(end[0])}[:| ]+{end[1]}\b", before)]
            if clients:
                assert mark and owner == truth[clients[0]], line
                right += 1
        assert right == CONNECTIONS
        counts = Counter(truth.values())
        report = json.loads(who(machine, daemon, printed, "--summary", "-o", "json"))["summary"]
        named = {row["deployments"][0]: row["connections"] for row in report if row["state"] == "attributed"}
        assert named == {f"id-{name}": count for name, count in counts.items() if name in OWNERS.values()}
        assert all(row["byAddress"] == 0 for row in report if row["state"] == "attributed")


def decided(daemon: Daemon, count: int) -> bool:
    flows = daemon.json("/api/v1/flows?limit=1000")["flows"]
    opened = [flow for flow in flows if flow["endedAt"] is None and flow["server"]["port"] in PORTS]
    return len(opened) >= count and all(flow["state"] != "pending" for flow in opened)


def test_what_the_host_prints(machine: Host) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(machine.daemon())
        stack.enter_context(machine.service(SERVER, 3306))
        peers: list[socket.socket] = [
            stack.enter_context(machine.connection(source, SERVER, 3306)) for source in CLIENTS
        ]
        until(lambda: decided(daemon, len(peers)), "every connection is decided")
        for command in (["ss", "-tn"], ["conntrack", "-L"]):
            told = who(machine, daemon, machine.inside.run(*command))
            for peer, source in zip(peers, CLIENTS, strict=True):
                port = str(peer.getsockname()[1])
                lines = [line for line in told.splitlines() if source in line and port in line]
                assert lines and all(line.endswith(f"=> {OWNERS.get(source, 'no deployment')}") for line in lines)


def test_a_moment_of_the_past(machine: Host, tmp_path: Path) -> None:

    with ExitStack() as stack:
        daemon = stack.enter_context(machine.daemon(history={"path": str(tmp_path / "history.db")}))
        stack.enter_context(machine.service(SERVER, 3306))
        with ExitStack() as held:
            ports = [held.enter_context(machine.connection(one, SERVER, 3306)).getsockname()[1] for one in CLIENTS]
            until(lambda: decided(daemon, len(ports)), "every connection is decided")
            moment = time.time()
            time.sleep(1.2)
        text = "\n".join(f"{source}:{port}" for source, port in zip(CLIENTS, ports, strict=True))
        told = who(machine, daemon, text, "--at", f"{moment:.3f}", "--service", f"{SERVER}:3306").splitlines()
        owners = [line.partition("  => ")[2] for line in told]
        assert owners == [OWNERS.get(source, "no deployment") for source in CLIENTS]
