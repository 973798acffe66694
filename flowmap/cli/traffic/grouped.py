"""Traffic by deployment, by peer, or by both: rows of the map for ``flowmap flows --by`` and ``flowmap top``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

from flowmap.cli.output import text

SIDES = ("deployment", "peer")
PAST = ("TRANSMIT", "RECEIVE", "CONNECTIONS")
MOST_NODES = 200
"""The most that a map has on each side."""

Answer = dict[str, Any]


class Group(NamedTuple):
    """The traffic of one deployment, one peer, or between both."""

    state: str
    deployment: str | None
    """Name, or names of a set; None if the rows are not by deployment."""
    peer: str | None
    figures: Answer
    """The figures of /api/v1/map."""
    filters: dict[str, str]
    """Parameters of /api/v1/flows that list its connections; empty for ``others``, which has no such filter."""


def by(value: str) -> tuple[str, ...]:
    """Parse ``deployment``, ``peer`` or ``deployment,peer``."""
    sides = tuple(value.split(","))
    if not sides or any(side not in SIDES for side in sides) or len(set(sides)) < len(sides):
        raise argparse.ArgumentTypeError(f"{value!r} is not deployment, peer or deployment,peer")
    return sides


def header(sides: tuple[str, ...], *, live: bool = True) -> tuple[str, ...]:
    """The columns for rows by these sides. ``live``: of now; the past has no rates."""
    names = [name for side, name in (("deployment", "DEPLOYMENT"), ("peer", "PEER")) if side in sides]
    state = ("STATE",) if "deployment" in sides else ()
    columns = ("TRANSMIT/S", "RECEIVE/S", "TRANSMIT", "RECEIVE", "OPEN") if live else PAST
    return (*state, *names, *columns)


def row(group: Group, *, live: bool = True) -> tuple[object, ...]:
    """A row of the table with these columns."""
    figures = group.figures
    rates = (rate(figures["transmitRate"]), rate(figures["receiveRate"]))
    names = [name for name in (group.deployment, group.peer) if name is not None]
    return (
        *((group.state,) if group.deployment is not None else ()),
        *names,
        *(rates if live else ()),
        text.amount(figures["transmitBytes"]),
        text.amount(figures["receiveBytes"]),
        figures["openConnections" if live else "connections"],
    )


def rate(per_second: float | None) -> str | None:
    """Bytes a second with a unit; None if not known."""
    return None if per_second is None else text.amount(round(per_second))


def groups(answer: Answer, sides: tuple[str, ...]) -> Iterator[Group]:
    """The rows of a map by ``sides``, in its order."""
    deployments = {node["id"]: node for node in answer["deployments"]}
    peers = {node["id"]: node for node in answer["peers"]}
    if set(sides) == {"deployment"}:
        for node in deployments.values():
            yield Group(_state(node), _deployment(node), None, node, _owner(node))
    elif set(sides) == {"peer"}:
        for node in peers.values():
            yield Group("", None, _peer(node), node, _service(node))
    else:
        for link in answer["links"]:
            one, other = deployments[link["deployment"]], peers[link["peer"]]
            found = _owner(one) | _service(other) if _owner(one) and _service(other) else {}
            yield Group(_state(one), _deployment(one), _peer(other), link, found)


def _state(node: Answer) -> str:
    kind = str(node["kind"])
    return {"deployment": "attributed", "unattributed": str(node["reason"]), "others": "-"}.get(kind, kind)


def _deployment(node: Answer) -> str:
    if node["folded"]:
        return f"({node['folded']} others)"
    return {"unattributed": "(no deployment)", "pending": "(not decided yet)"}.get(node["kind"], str(node["name"]))


def _peer(node: Answer) -> str:
    return f"({node['folded']} others)" if node["folded"] else str(node["peer"])


def _owner(node: Answer) -> dict[str, str]:
    match node["kind"]:
        case "deployment" | "shared":
            first = node["deployments"][0]
            return {"deployment": first["deploymentId"] or first["name"], "state": _state(node)}
        case "unattributed" | "internal" | "pending":
            return {"state": _state(node)}
    return {}


def _service(node: Answer) -> dict[str, str]:
    return {} if node["folded"] or not node["protocol"] else {"peer": node["peer"], "protocol": node["protocol"]}
