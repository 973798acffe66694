"""Asks the daemons about connections, in batches, and joins what several of them answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flowmap.cli.shared.client import DaemonClient
from flowmap.cli.who.mentions import Mention
from flowmap.errors import QueryError

BATCH = 1000
"""Connections in one request; the most that the daemon allows."""

NAMED = ("attributed", "shared")

Attribution = dict[str, Any]
Answers = Mapping[Mention, Attribution]


class Answered(NamedTuple):
    """One daemon's answers."""

    url: str
    attributions: list[Attribution]


def ask(
    clients: Mapping[str, DaemonClient],
    mentions: Sequence[Mention],
    at: float | None,
    netns: str | None = None,
    *,
    failed: Callable[[str], None],
) -> Answers:
    """What the daemons answer about at most :data:`BATCH` connections.

    ``failed`` is called with the reason if a daemon does not answer; QueryError if none does.
    """
    body = {"connections": [_body(mention, netns) for mention in mentions], "at": None if at is None else f"{at:.3f}"}
    answered: list[Answered] = []
    errors: list[QueryError] = []
    for url, client in clients.items():
        try:
            answered.append(Answered(url, client.post("attribution/batch", body)["attributions"]))
        except QueryError as error:
            errors.append(error)
    if not answered:
        raise errors[0]
    for one in errors:
        failed(str(one))
    columns = zip(*(one.attributions for one in answered), strict=True)
    return {mention: joined(list(several)) for mention, several in zip(mentions, columns, strict=True)}


def joined(several: Sequence[Attribution]) -> Attribution:
    """One attribution from those of several daemons: only those that saw the connection count, if one did.

    Different names are no name.
    """
    counted = [one for one in several if one["observed"]] or list(several)
    named = [one for one in counted if one["state"] in NAMED]
    if len({_owners(one) for one in named}) > 1:
        names = sorted({name for one in named for name in _names(one)})
        cause = f"the daemons differ: {', '.join(names)}"
        return named[0] | {"state": "ambiguous", "deployments": [], "evidence": [], "flow": None, "cause": cause}
    return min(named or counted, key=lambda one: _ORDER.index(one["state"]))


def _owners(one: Attribution) -> frozenset[tuple[str, ...]]:
    return frozenset(
        tuple(deployment[key] for key in ("workspace", "namespace", "deploymentId"))
        for deployment in one["deployments"]
    )


def _names(one: Attribution) -> list[str]:
    return [deployment["name"] for deployment in one["deployments"]]


_ORDER = ("attributed", "shared", "internal", "ambiguous", "pending", "failed", "unknown")
"""States from the one that says most to the one that says least."""


def _body(mention: Mention, netns: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"srcIp": mention.client.ip, "protocol": mention.protocol}
    if netns is not None:
        body["netns"] = netns
    if mention.client.port is not None:
        body["srcPort"] = mention.client.port
    if mention.server is not None:
        body["dstIp"] = mention.server.ip
        if mention.server.port is not None:
            body["dstPort"] = mention.server.port
    return body
