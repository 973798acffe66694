"""A network namespace as a source sees it: it opens netlink sockets there and reads its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowmap.model.namespace import HOST
from flowmap.sources.netlink_socket import NetlinkSocket, OpenSocket
from flowmap.sources.sockets.kernel import EphemeralPorts, ephemeral_ports


@dataclass(frozen=True, slots=True)
class Network:
    """A network namespace; without arguments that of the calling thread."""

    open_socket: OpenSocket = NetlinkSocket
    client_ports: Callable[[], EphemeralPorts] = ephemeral_ports
    """The ports that the kernel assigns to clients there."""
    name: str = HOST
    """How workloads there say where they are."""


OWN = Network()
"""The network namespace of the calling thread."""
