"""Addresses and interfaces of a real namespace, also while they change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from flowmap.model.address import Address
from flowmap.sources.capture.check import findings
from flowmap.sources.capture.interfaces import Interface, InterfaceWatch, by_name
from flowmap.sources.netlink_socket import NetlinkSocket
from flowmap.sources.sockets.kernel import AddressWatch
from tests.support.netns import Namespace, namespace, needs_root

pytestmark = [pytest.mark.kernel, needs_root]

ODD = os.fsdecode(b"odd\xff")
"""As a word of a command line; the kernel gets the bytes."""


@pytest.fixture
def inside() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.mark.parametrize("addresses", [3, 2000], ids=["in-one-part", "in-many"])
def test_an_address_that_goes_while_the_list_is_read(
    inside: Namespace, monkeypatch: pytest.MonkeyPatch, addresses: int
) -> None:
    batch = "".join(f"addr add 10.100.{n // 250}.{n % 250 + 1}/32 dev lo\n" for n in range(addresses))
    inside.run("ip", "-batch", "-", stdin=batch)
    left: list[Callable[[], object]] = [lambda: inside.run("ip", "addr", "del", "10.100.0.1/32", "dev", "lo")]
    send = NetlinkSocket.send

    def send_then_remove(asking: NetlinkSocket, request: bytes) -> None:
        send(asking, request)  # the kernel makes the first part of the list now
        if left:
            left.pop()()

    monkeypatch.setattr(NetlinkSocket, "send", send_then_remove)
    with inside.entered(), contextlib.closing(AddressWatch()) as watch:
        known = watch.refresh()
        assert known is not None
        assert Address.parse("10.100.0.1") not in known and Address.parse("10.100.0.2") in known
        assert watch.refresh() is None


def test_interfaces_by_any_of_their_names(inside: Namespace) -> None:
    inside.run("ip", "link", "add", "x", "type", "veth", "peer", "name", ODD)
    inside.run("ip", "link", "set", "x", "up")
    inside.run(
        "ip", "link", "property", "add", "dev", "x", "altname", "uplink-to-the-rest-of-the-world", "altname", "q"
    )
    with inside.entered(), contextlib.closing(InterfaceWatch()) as watch:
        there = watch.refresh() or []
    odd, x = sorted((one for one in there if one.name != "lo"), key=lambda one: one.name)
    assert (odd.name, odd.up, odd.other_names) == (r"odd\xff", False, ())
    assert (x.name, x.up, set(x.other_names)) == ("x", True, {"uplink-to-the-rest-of-the-world", "q"})
    assert by_name(there, ["q", "gone", r"odd\xff"]) == {"q": x, r"odd\xff": odd}
    assert by_name(there, []).keys() == {"lo", "x", r"odd\xff"}


CHANGES: list[tuple[str, list[list[str]], Callable[[Interface | None], bool]]] = [
    ("added", [["link", "add", "n0", "type", "veth"]], lambda one: one is not None and not one.up),
    ("up", [["link", "add", "n0", "up", "type", "veth"]], lambda one: one is not None and one.up),
    (
        "renamed",
        [["link", "add", "m0", "type", "veth"], ["link", "set", "m0", "name", "n0"]],
        lambda one: one is not None and one.name == "n0",
    ),
    (
        "other name",
        [["link", "add", "m0", "up", "type", "veth"], ["link", "property", "add", "dev", "m0", "altname", "n0"]],
        lambda one: one is not None and one.name == "m0",
    ),
    ("gone", [["link", "add", "n0", "type", "veth"], ["link", "del", "n0"]], lambda one: one is None),
]


@pytest.mark.parametrize(("commands", "right"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_every_change_of_interfaces_is_noticed(
    inside: Namespace, commands: list[list[str]], right: Callable[[Interface | None], bool]
) -> None:
    with inside.entered(), contextlib.closing(InterfaceWatch()) as watch:
        there = watch.refresh()
        for command in commands:
            inside.run("ip", *command)
            there = watch.refresh()
            assert there is not None, command
        assert there is not None and right(by_name(there, ["n0"]).get("n0"))
        assert watch.refresh() is None


def test_check_tells_odd_and_other_names(inside: Namespace) -> None:
    inside.run("ip", "link", "add", "x", "up", "type", "veth", "peer", "name", ODD)
    inside.run("ip", "link", "property", "add", "dev", "x", "altname", "uplink")
    with inside.entered():
        whole = findings(interfaces=["uplink"], ring=1 << 20, pcap="")[-1]
        half = findings(interfaces=["uplink", r"odd\xff"], ring=1 << 20, pcap="")[-1]
    assert (whole.level, whole.message) == ("ok", "uplink (x)")
    assert (half.level, half.message) == ("degraded", r"down: odd\xff")
    assert r"ip link set $'odd\xff' up" in half.remedy
