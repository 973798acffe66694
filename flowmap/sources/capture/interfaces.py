"""Lists the interfaces of a network namespace with name, number and state (netdevice(7))."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowmap.config.values import format_interface
from flowmap.sources.route_watch import RouteWatch
from flowmap.wire.netlink.messages import Message
from flowmap.wire.netlink.rtnetlink import NEW_LINK, LinkGroup, decode_link, encode_links


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface; names are in the form of the configuration."""

    name: str
    number: int
    up: bool
    other_names: tuple[str, ...] = ()


class InterfaceWatch(RouteWatch[list[Interface]]):
    """The interfaces of the namespace."""

    what = "interfaces"

    def __init__(self) -> None:
        super().__init__(LinkGroup)

    def _encode(self, sequence: int) -> bytes:
        return encode_links(sequence=sequence)

    def _collect(self, messages: Iterator[Message]) -> list[Interface]:
        links = [decode_link(message.payload) for message in messages if message.type == NEW_LINK]
        return [
            Interface(format_interface(link.name), link.number, link.up, tuple(map(format_interface, link.other_names)))
            for link in links
        ]


def by_name(interfaces: Iterable[Interface], wanted: Iterable[str]) -> dict[str, Interface]:
    """The ``wanted`` interfaces that exist, also by an alternative name; without wanted names, all interfaces."""
    found = {name: one for one in interfaces for name in (one.name, *one.other_names)}
    names = list(wanted) or [one.name for one in interfaces]
    return {name: found[name] for name in names if name in found}


def read_interfaces(wanted: Iterable[str] = ()) -> dict[str, Interface]:
    """The interfaces of the calling thread's namespace as :func:`by_name`; SourceError if the kernel lists none."""
    with contextlib.closing(InterfaceWatch()) as watch:
        return by_name(watch.refresh() or (), wanted)
