"""What a traffic series is named by, and the label text made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from flowmap.errors import ConfigError
from flowmap.export.labels import label_text, quoted, quoted_list
from flowmap.model.deployment import Owner

SeriesKind = Literal["deployment", "shared", "unattributed"]

KINDS: tuple[SeriesKind, ...] = ("deployment", "shared", "unattributed")

OTHER = "other"
"""Peer of the series that take what the cap turned away."""

LABELS = ("namespace", "workspace", "deployment_id", "deployment", "peer", "protocol")
"""Every label ``export.labels`` may hold."""


class SeriesKey(NamedTuple):
    """Whose traffic, with whom."""

    kind: SeriesKind
    owners: tuple[Owner, ...]
    """Sorted; one for a deployment, several where shared, none where unattributed."""
    reason: str
    """Why it is unattributed (``unknown``, ``ambiguous``, ``failed``, ``shed``, …); else empty."""
    peer: str
    """The other end: a configured name, or ``ip:port`` of the service end."""
    protocol: str


class SeriesLabels:
    """The labels of each kind of series, for one setting of ``export.labels``.

    Deployments carry exactly those labels, in that order. Shared series always name their set, and unattributed ones
    their reason; ``peer``, ``protocol`` and ``workspace`` they carry only if the setting has them, so that leaving a
    label out bounds the series of every kind.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """ConfigError for a name that is no label, or is there twice."""
        for name in labels:
            if name not in LABELS:
                raise ConfigError(f"export.labels: {name!r} is none of {', '.join(LABELS)}")
        if len(set(labels)) != len(labels):
            raise ConfigError("export.labels: a label is there twice")
        self._labels = tuple(labels)
        self._has = frozenset(labels)

    @property
    def has_peer(self) -> bool:
        return "peer" in self._has

    def names(self, kind: SeriesKind) -> tuple[str, ...]:
        """Label names of ``kind``, in the order they are written."""
        if kind == "deployment":
            return self._labels
        own = ("namespace", "deployment_ids", "deployments") if kind == "shared" else ("reason",)
        extra = ("workspace",) if kind == "shared" else ()
        return own + tuple(name for name in (*extra, "peer", "protocol") if name in self._has)

    def text(self, key: SeriesKey) -> str:
        """The label text of ``key``; keys with equal text are one series."""
        values = _VALUES[key.kind](key)
        return label_text([(name, values[name]) for name in self.names(key.kind)])

    def visible(self, key: SeriesKey) -> SeriesKey:
        """``key`` without what its labels do not say: a series stands for every key with its labels, not for one."""
        shared = key.kind == "shared"
        owners = tuple(
            Owner(
                workspace=owner.workspace if "workspace" in self._has else "",
                namespace=owner.namespace if shared or "namespace" in self._has else "",
                deployment_id=owner.deployment_id if shared or "deployment_id" in self._has else "",
                name=owner.name if shared or "deployment" in self._has else "",
            )
            for owner in key.owners
        )
        return key._replace(
            owners=key.owners if owners == key.owners else owners,
            peer=key.peer if "peer" in self._has else "",
            protocol=key.protocol if "protocol" in self._has else "",
        )


def last_resort(kind: SeriesKind) -> SeriesKey:
    """The one series of ``kind`` that takes traffic for which there is no room at all.

    It names nobody: its deployment labels are empty, which Prometheus reads as absent.
    """
    return SeriesKey(kind, (), OTHER if kind == "unattributed" else "", OTHER, OTHER)


def _deployment_values(key: SeriesKey) -> dict[str, str]:
    owner = key.owners[0] if key.owners else Owner("", "", "", "")
    return {
        "namespace": quoted(owner.namespace),
        "workspace": quoted(owner.workspace),
        "deployment_id": quoted(owner.deployment_id),
        "deployment": quoted(owner.name),
        "peer": quoted(key.peer),
        "protocol": quoted(key.protocol),
    }


def _shared_values(key: SeriesKey) -> dict[str, str]:
    return {
        "namespace": _one_or_each([owner.namespace for owner in key.owners]),
        "workspace": _one_or_each([owner.workspace for owner in key.owners]),
        "deployment_ids": quoted_list(owner.deployment_id for owner in key.owners),
        "deployments": quoted_list(owner.name for owner in key.owners),
        "peer": quoted(key.peer),
        "protocol": quoted(key.protocol),
    }


def _unattributed_values(key: SeriesKey) -> dict[str, str]:
    return {"reason": quoted(key.reason), "peer": quoted(key.peer), "protocol": quoted(key.protocol)}


def _one_or_each(values: list[str]) -> str:
    """One value if all are equal, else one for each owner, in the order of their ids."""
    return quoted_list(values[:1] if len(set(values)) == 1 else values)


_VALUES = {"deployment": _deployment_values, "shared": _shared_values, "unattributed": _unattributed_values}
