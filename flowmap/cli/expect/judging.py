"""Judges what the daemon saw by a file of expectations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.expectation import Expectation, Finding, FindingKind, SeenPeer, judge

Edge = dict[str, Any]


class Judged(NamedTuple):
    """A finding, and the traffic that it is about; None if there is none."""

    finding: Finding
    edge: Edge | None


def judged(entries: Sequence[Expectation], edges: Sequence[Edge], *, with_missing: bool) -> list[Judged]:
    """Every finding. ``with_missing``: also peers that an entry names and that were not seen."""
    by_place = {(_owners(edge), edge["peer"]): edge for edge in edges}
    seen = [SeenPeer(_infos(edge), edge["peer"]) for edge in edges]
    return [
        Judged(one, by_place.get((one.owners, one.peer)))
        for one in judge(entries, seen)
        if with_missing or one.kind is not FindingKind.MISSING
    ]


def without_deployment(entries: Sequence[Expectation], edges: Sequence[Edge]) -> list[str]:
    """The entries, as text, that are for none of the deployments that were seen: a mistyped name, perhaps."""
    infos = {info.owner: info for edge in edges for info in _infos(edge)}
    return [str(entry) for entry in entries if not any(entry.is_for(info) for info in infos.values())]


def finding_json(judged: Judged) -> dict[str, Any]:
    """A finding in JSON."""
    finding, edge = judged
    keys = ("workspace", "namespace", "deploymentId", "name")
    traffic = edge and edge["traffic"]
    return {
        "kind": finding.kind.value,
        "deployments": [dict(zip(keys, owner, strict=True)) for owner in finding.owners],
        "entry": finding.entry or None,
        "peer": finding.peer or None,
        "bytes": traffic and traffic["transmitBytes"] + traffic["receiveBytes"],
        "firstSeen": edge and edge["firstSeen"],
        "lastSeen": edge and edge["lastSeen"],
    }


def _infos(edge: Edge) -> tuple[DeploymentInfo, ...]:
    owners = _owners(edge)
    return tuple(
        DeploymentInfo(owner, labels=one["labels"]) for owner, one in zip(owners, edge["deployments"], strict=True)
    )


def _owners(edge: Edge) -> tuple[Owner, ...]:
    return tuple(
        Owner(one["workspace"], one["namespace"], one["deploymentId"], one["name"]) for one in edge["deployments"]
    )
