"""Makes the source that reads every wanted network namespace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flowmap.sources.base import Source
from flowmap.sources.combined import CombinedSource, MeasuringSource
from flowmap.sources.kinds import KINDS
from flowmap.sources.namespaces.client import OpenerClient, raise_file_limit
from flowmap.sources.namespaces.pace import SharedPace
from flowmap.sources.namespaces.search_queue import SearchQueue
from flowmap.sources.namespaces.source import NamespacesSource
from flowmap.sources.network import OWN, Network

if TYPE_CHECKING:
    from flowmap.config import CollectConfig
    from flowmap.sources.sockets.source import SocketsSource


def every_namespace(settings: CollectConfig, kind: str, *, together: bool) -> NamespacesSource:
    """``kind``: the source that counts bytes. ``together``: conntrack counts, and the own socket table measures.

    Where conntrack counts, the socket tables of other namespaces measure: payload is never added to IP bytes.
    """
    from flowmap.sources.sockets.peers import Peers
    from flowmap.sources.sockets.source import SocketsSource
    from flowmap.sources.workloads.numbering import Numbering
    from flowmap.sources.workloads.processes import ProcessSearch

    raise_file_limit()
    numbering = Numbering()
    peers = Peers()
    searches = None if settings.sockets.processes == "off" else SearchQueue(ProcessSearch())

    def sockets(network: Network = OWN, pace: Callable[[float], float] | None = None) -> SocketsSource:
        return SocketsSource(
            interval=settings.sockets.interval,
            bytes_count=kind == "sockets",
            cgroups=settings.sockets.cgroups,
            processes=None if searches is None else searches.part(),
            network=network,
            numbering=numbering,
            pace=pace,
            tells_addresses=True,
            peers=peers if kind == "sockets" else None,  # else no byte of a socket counts
        )

    def other(network: Network, pace: Callable[[float], float]) -> Source:
        return sockets(network, pace) if kind == "sockets" else MeasuringSource(sockets(network, pace))

    own: Source = sockets() if kind == "sockets" else KINDS[kind].make(settings)
    client = OpenerClient(Path(settings.opener), settings.wanted_namespaces, conntrack=False)
    return NamespacesSource(
        CombinedSource(own, sockets()) if together else own,
        other,
        client,
        SharedPace(settings.sockets.interval),
        traffic=None if kind == "sockets" else own,
        searches=searches,
        peers=peers,
    )
