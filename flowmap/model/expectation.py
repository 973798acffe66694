"""Expectations: the peers that deployments may have, and how observed traffic departs from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.selection import LabelFilter, fits, is_named

OTHER = "other"
"""The peer of traffic beyond ``export.max_series``, which cannot be judged."""


class FindingKind(StrEnum):
    """How traffic departs from the expectations."""

    NEW = "new"
    """A peer that no entry of the deployment allows."""
    FORBIDDEN = "forbidden"
    """A peer that an entry of the deployment forbids."""
    MISSING = "missing"
    """A peer that an entry names, and that none of its deployments talked to."""
    NO_ENTRY = "no entry"
    """A deployment without an entry; its peers are not judged."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One entry: the deployments that it is for, and their peers. Names may be globs, except of labels."""

    peers: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    deployment: str | None = None
    """Id, name, or a glob of names."""
    label: LabelFilter | None = None

    def is_for(self, info: DeploymentInfo) -> bool:
        """Whether the entry is about the deployment."""
        named = self.deployment is None or is_named(info.owner, self.deployment)
        return named and (self.label is None or self.label.passes(info))

    def __str__(self) -> str:
        parts = [] if self.deployment is None else [self.deployment]
        parts += [] if self.label is None else [f"{self.label.key}={','.join(self.label.values)}"]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class SeenPeer:
    """A deployment, or the set that it is one of, that talked to a peer."""

    infos: tuple[DeploymentInfo, ...]
    peer: str
    """The name of the peer; ``ip:port`` if it has no name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One departure."""

    kind: FindingKind
    owners: tuple[Owner, ...]
    """Empty for a missing peer."""
    entry: str
    """The entry that names the missing peer; empty otherwise."""
    peer: str
    """Empty for a deployment without an entry."""


def judge(entries: Sequence[Expectation], seen: Iterable[SeenPeer]) -> list[Finding]:
    """Compare observed traffic with the entries: each finding once, in a fixed order.

    Entries of one deployment add up, and a forbidden peer stays forbidden. For deployments that cannot be told apart, a
    peer is a finding only if it is unexpected for each of them.
    """
    found: dict[Finding, None] = {}
    met: set[tuple[int, str]] = set()
    for one in sorted(seen, key=lambda one: (one.infos and one.infos[0].owner, one.peer)):
        own = [[entry for entry in entries if entry.is_for(info)] for info in one.infos]
        for info, of_one in zip(one.infos, own, strict=True):
            if not of_one:
                found[Finding(FindingKind.NO_ENTRY, (info.owner,), "", "")] = None
        applied = [entry for of_one in own for entry in of_one]
        met.update((id(entry), peer) for entry in applied for peer in entry.peers if fits(one.peer, peer))
        if one.peer != OTHER and own and all(own) and (kind := _kind(own, one.peer)):
            found[Finding(kind, tuple(info.owner for info in one.infos), "", one.peer)] = None
    for entry in entries:
        for peer in entry.peers:
            if "*" not in peer and "?" not in peer and (id(entry), peer) not in met:
                found[Finding(FindingKind.MISSING, (), str(entry), peer)] = None
    return list(found)


def _kind(own: Sequence[Sequence[Expectation]], name: str) -> FindingKind | None:
    """Forbidden to each of the deployments, or allowed to none of them; None for a peer that is expected."""
    forbidden = [any(fits(name, peer) for entry in of_one for peer in entry.forbidden) for of_one in own]
    if all(forbidden):
        return FindingKind.FORBIDDEN
    allowed = [any(fits(name, peer) for entry in of_one for peer in entry.peers) for of_one in own]
    expected = any(is_allowed and not is_forbidden for is_allowed, is_forbidden in zip(allowed, forbidden, strict=True))
    return None if expected else FindingKind.NEW
