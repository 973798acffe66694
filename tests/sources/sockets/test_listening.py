"""Listening sockets of this namespace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from flowmap.model.address import Address, Endpoint
from flowmap.sources.sockets.listening import read_listening
from flowmap.system.cgroups import find_mount


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("", "0.0.0.0"), ("::1", "::1")])
def test_address_and_port(host: str, shown: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        assert Endpoint(Address.parse(shown), port) in {one.endpoint for one in read_listening()}
    assert port not in {one.endpoint.port for one in read_listening() if str(one.endpoint.address) == shown}


def test_cgroup() -> None:
    root = find_mount().path
    if root is None:
        pytest.skip("needs a cgroup v2 tree")
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path = next(line.rpartition("::")[2] for line in lines if "::" in line)
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = {one.endpoint.port: one.cgroup for one in read_listening()}
        assert found[server.getsockname()[1]] == os.stat(root / path.lstrip("/")).st_ino
