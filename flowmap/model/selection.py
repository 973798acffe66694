"""What a question about traffic is about: deployments, peers, and a window of time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flowmap.model.deployment import DeploymentInfo, Owner


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """A label of a deployment and the values that pass."""

    key: str
    values: tuple[str, ...]

    def passes(self, info: DeploymentInfo) -> bool:
        """Whether the deployment has the label with one of the values."""
        return info.labels.get(self.key) in self.values


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deployments and peers, and when; None passes everything."""

    deployment: str | None = None
    """Id, name, or a glob of names (``orders-*``)."""
    peer: str | None = None
    """Name, ``ip:port``, or a glob of either."""
    label: LabelFilter | None = None
    since: float | None = None
    """Seconds since the epoch; None: everything that is still known."""
    until: float | None = None

    @property
    def of_past(self) -> bool:
        """Whether a window is given."""
        return self.since is not None or self.until is not None

    @property
    def window(self) -> tuple[float, float]:
        """``since`` and ``until``; infinite where they are None."""
        return -math.inf if self.since is None else self.since, math.inf if self.until is None else self.until

    def has_peer(self, *names: str) -> bool:
        """Whether a peer with one of these names is selected."""
        return self.peer is None or any(fits(name, self.peer) for name in names)

    def has_any(self, infos: Iterable[DeploymentInfo]) -> bool:
        """Whether one of these deployments is selected: one of a set may own the traffic."""
        return any(self.has(info) for info in infos)

    def has(self, info: DeploymentInfo) -> bool:
        """Whether a deployment is selected."""
        if self.deployment is not None and not is_named(info.owner, self.deployment):
            return False
        return self.label is None or self.label.passes(info)


def is_named(owner: Owner, text: str) -> bool:
    """Whether ``text`` is the id or the name of a deployment, or a glob of its name."""
    return owner.is_called(text) or fits(owner.name, text)


def fits(name: str, text: str) -> bool:
    """Whether ``text`` is the name, or a glob that matches it. Without ``*`` and ``?`` it is no glob."""
    return name == text or (("*" in text or "?" in text) and fnmatchcase(name, text))
