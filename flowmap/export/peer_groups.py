"""Peers by host names and files: which addresses get which name, and where two names claim the same endpoint.

An address that the configuration writes down keeps its name. Then host names count, then files; among equals the one
that stands first. So neither a name server nor another program can take an endpoint from a peer that was written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from flowmap.export.peers import Peers
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Address, Endpoint
from flowmap.model.peer_entry import EntryKind, read_entry

KEEP = 3600.0
"""Seconds that an address keeps its name after the last answer or file that had it."""
MOST_ADDRESSES = 10_000
"""Addresses by host names and files. Further ones have no name, and are counted."""

_TCP = 6

Target = tuple[str, int | None]
"""An address as text, and a port or any."""


class PeerConflict(NamedTuple):
    """Two names for one endpoint."""

    endpoint: str
    counts: str
    other: str


class PeerNaming(NamedTuple):
    """The patterns of each peer without host names and files, and what stands in the way of it."""

    named: dict[str, tuple[str, ...]]
    conflicts: tuple[PeerConflict, ...]
    left_out: int
    """Addresses beyond :data:`MOST_ADDRESSES`."""


class KnownTargets:
    """The targets of each host name and file, as last found. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[Target, float]] = {}

    def found(self, entry: str, targets: Sequence[Target], now: float) -> None:
        """Note what an entry stands for now. Earlier targets stay for :data:`KEEP` seconds."""
        seen = self._seen.setdefault(entry, {})
        seen.update(dict.fromkeys(targets, now))
        self._seen[entry] = {target: at for target, at in seen.items() if at >= now - KEEP}

    def of(self, entry: str) -> list[Target]:
        """The targets of an entry, in a fixed order."""
        return sorted(self._seen.get(entry, ()), key=lambda target: (target[0], target[1] or 0))


def naming(configured: Mapping[str, Sequence[str]], known: KnownTargets) -> PeerNaming:
    """Patterns by name: those of the configuration, and one for each known target that no other name has."""
    named = {
        name: [text for text in texts if read_entry(text).kind is EntryKind.PATTERN]
        for name, texts in configured.items()
    }
    literal, taken = Peers(named), dict[Target, str]()
    conflicts: dict[PeerConflict, None] = {}
    left_out = 0
    for name, target in _targets(configured, known):
        owner = taken.get(target) or literal.named(_key(target))
        if owner is None and len(taken) >= MOST_ADDRESSES:
            left_out += 1
        elif owner is None:
            taken[target] = name
            named[name].append(_pattern(target))
        elif owner != name:
            conflicts[PeerConflict(_pattern(target), owner, name)] = None
    return PeerNaming({name: tuple(texts) for name, texts in named.items()}, tuple(conflicts), left_out)


def _targets(configured: Mapping[str, Sequence[str]], known: KnownTargets) -> Iterator[tuple[str, Target]]:
    for kind in (EntryKind.HOST, EntryKind.FILE):
        for name, texts in configured.items():
            for text in texts:
                if read_entry(text).kind is kind:
                    yield from ((name, target) for target in known.of(text))


def _key(target: Target) -> EndpointKey:
    return EndpointKey(Address.parse(target[0]), target[1] or 0, _TCP, True)


def _pattern(target: Target) -> str:
    address = Address.parse(target[0])
    if target[1] is not None:
        return str(Endpoint(address, target[1]))
    return str(address)
