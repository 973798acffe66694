"""What hosts ask through the fleet, as text that is the same on every host, and the keys that keep accounts apart."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import NamedTuple

from flowmap.model.address import Address, Endpoint

PREFIX = "flowmap"
"""Every key begins with this and a colon; access rights on the server can be limited to it."""

PARTS = ("state", "traffic", "age", "wanted", "flight", "later", "answers", "stored", "waiters", "hosts")
"""The keys in the order in which ``exchange.lua`` takes them."""


class Kind(StrEnum):
    """The calls of a control plane that hosts share."""

    OWNERS = "owners"
    DEPLOYMENTS = "deployments"
    JOBS = "jobs"


class Request(NamedTuple):
    """One call of the control plane; ``workspace`` is never empty."""

    kind: Kind
    workspace: str
    namespace: str
    source: Endpoint | None = None
    destination: Endpoint | None = None
    detail: str = ""
    """Of ``deployments`` the label that narrows the listing, of ``jobs`` the id of the deployment."""

    @property
    def narrows(self) -> bool:
        """Whether the question is about both endpoints: it gets calls that nothing else needs."""
        return self.source is not None and self.destination is not None

    def text(self) -> str:
        """The question's name in the shared queue."""
        parts = [self.kind.value, self.workspace, self.namespace]
        if self.kind is Kind.OWNERS:
            return " ".join([*parts, _endpoint(self.source), _endpoint(self.destination)])
        return " ".join([*parts, json.dumps(self.detail)])

    @classmethod
    def parse(cls, text: str) -> Request:
        """The inverse of :meth:`text`; ValueError for anything else, since other programs may write to the server."""
        kind, workspace, namespace, rest = text.split(" ", 3)
        if Kind(kind) is Kind.OWNERS:
            source, destination = rest.split(" ")
            request = cls(Kind.OWNERS, workspace, namespace, _parsed(source), _parsed(destination))
        else:
            request = cls(Kind(kind), workspace, namespace, detail=json.loads(rest))
        if request.text() != text:
            raise ValueError("not a question of flowmap")
        return request


class FleetScope(NamedTuple):
    """Which hosts share: those with the same control plane, account and ``fleet.scope``."""

    endpoint: str
    account: str
    name: str

    @property
    def identity(self) -> str:
        """Stands for the scope in keys and signatures."""
        given = json.dumps([self.endpoint.lower(), self.account, self.name]).encode()
        return hashlib.sha256(given).hexdigest()[:24]

    def keys(self) -> list[str]:
        """The keys on the server. The braces keep them in one slot of a cluster."""
        return self.named(*PARTS)

    def named(self, *parts: str) -> list[str]:
        """Keys of the scope with these names."""
        prefix = f"{PREFIX}:{{{self.identity}}}:"
        return [prefix + part for part in parts]

    def channel(self, host: str) -> str:
        """The channel on which the server passes messages to a host."""
        return f"{PREFIX}:{{{self.identity}}}:to:{host}"

    @property
    def answers_key(self) -> str:
        """The key of the answers."""
        return self.keys()[PARTS.index("answers")]


def _endpoint(endpoint: Endpoint | None) -> str:
    return "-" if endpoint is None else str(endpoint)


def _parsed(text: str) -> Endpoint | None:
    if text == "-":
        return None
    address, _, port = text.rpartition(":")
    number = int(port)
    if not 0 <= number <= 65535:
        raise ValueError(f"{text!r} has no port")
    return Endpoint(Address.parse(address.removeprefix("[").removesuffix("]")), number)
