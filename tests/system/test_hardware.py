"""The hardware address, with the kernel of this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from flowmap.system.hardware import hardware_address


def test_it_is_that_of_an_interface() -> None:
    found = hardware_address()
    files = [Path("/sys/class/net", name, "address") for _, name in socket.if_nameindex()]
    known = {file.read_text().strip() for file in files if file.exists()}
    assert found is None or not known or found.hex(":") in known


def test_interfaces_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (99, "none-such")])
    assert hardware_address() is None
