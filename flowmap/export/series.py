"""The key of a traffic series and the label text made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from flowmap.errors import ConfigError
from flowmap.export.labels import label_text, quoted, quoted_list
from flowmap.model.deployment import Owner

SeriesKind = Literal["deployment", "shared", "unattributed", "internal"]

KINDS: tuple[SeriesKind, ...] = ("deployment", "shared", "unattributed", "internal")

OTHER = "other"
"""Peer of series that collect traffic beyond the limit of series."""

_INTERNAL = ("cluster", "protocol")

WORKLOAD_LABELS = ("container", "unit")
LABELS = ("namespace", "workspace", "deployment_id", "deployment", "peer", "protocol", *WORKLOAD_LABELS)
"""Every label that ``export.labels`` may name."""


class SeriesKey(NamedTuple):
    """Owners and peer of some traffic."""

    kind: SeriesKind
    owners: tuple[Owner, ...]
    """Sorted: one for a deployment, several if shared, none if unattributed; the cluster's role if internal."""
    reason: str
    """Why the traffic is unattributed (``unknown``, ``ambiguous``, ``failed``, ``shed``, …); else empty."""
    peer: str
    """Name of the service endpoint in ``export.peers``, else its ``ip:port``."""
    protocol: str
    container: str = ""
    """Of the client, or else of the server, if it is on this host: its id; empty if there is none, or ``unknown``."""
    unit: str = ""


class SeriesLabels:
    """The labels of each kind of series, for one setting of ``export.labels``.

    Deployment series have exactly these labels, in this order. Shared series always have the labels of their set, and
    unattributed series their reason. They have the other labels only if the setting names them, so leaving a label out
    reduces the series of every kind.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """ConfigError for an unknown or repeated label."""
        for name in labels:
            if name not in LABELS:
                raise ConfigError(f"export.labels: {name!r} is not one of {', '.join(LABELS)}")
        if len(set(labels)) != len(labels):
            raise ConfigError("export.labels: a label is named twice")
        self._labels = tuple(labels)
        self._has = frozenset(labels)

    @property
    def has_peer(self) -> bool:
        return "peer" in self._has

    @property
    def has_workload(self) -> bool:
        """Whether a label names the workload on this host."""
        return not self._has.isdisjoint(WORKLOAD_LABELS)

    def names(self, kind: SeriesKind) -> tuple[str, ...]:
        """Label names of ``kind``, in the order of the page."""
        if kind == "deployment":
            return self._labels
        if kind == "internal":
            return _INTERNAL
        own = ("namespace", "deployment_ids", "deployments") if kind == "shared" else ("reason",)
        extra = ("workspace",) if kind == "shared" else ()
        return own + tuple(name for name in (*extra, "peer", "protocol", *WORKLOAD_LABELS) if name in self._has)

    def text(self, key: SeriesKey) -> str:
        """The label text of ``key``. Keys with equal text are one series."""
        values = _VALUES[key.kind](key)
        return label_text([(name, values[name]) for name in self.names(key.kind)])

    def visible(self, key: SeriesKey) -> SeriesKey:
        """``key`` without the parts that its labels leave out, since a series stands for every key with its labels."""
        if key.kind == "internal":
            return key._replace(peer="", container="", unit="")
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
            container=key.container if "container" in self._has else "",
            unit=key.unit if "unit" in self._has else "",
        )


def last_resort(kind: SeriesKind) -> SeriesKey:
    """The series of ``kind`` that collects traffic when no other series fits.

    Its deployment labels are empty, which Prometheus treats as absent.
    """
    return SeriesKey(kind, (), OTHER if kind == "unattributed" else "", OTHER, OTHER)


def _deployment_values(key: SeriesKey) -> dict[str, str]:
    owner = key.owners[0] if key.owners else Owner("", "", "", "")
    return {
        "namespace": quoted(owner.namespace),
        "workspace": quoted(owner.workspace),
        "deployment_id": quoted(owner.deployment_id),
        "deployment": quoted(owner.name),
        **_traffic_values(key),
    }


def _shared_values(key: SeriesKey) -> dict[str, str]:
    return {
        "namespace": _one_or_each([owner.namespace for owner in key.owners]),
        "workspace": _one_or_each([owner.workspace for owner in key.owners]),
        "deployment_ids": quoted_list(owner.deployment_id for owner in key.owners),
        "deployments": quoted_list(owner.name for owner in key.owners),
        **_traffic_values(key),
    }


def _unattributed_values(key: SeriesKey) -> dict[str, str]:
    return {"reason": quoted(key.reason), **_traffic_values(key)}


def _traffic_values(key: SeriesKey) -> dict[str, str]:
    """Labels that deployments, sets of them and unattributed traffic have."""
    return {name: quoted(getattr(key, name)) for name in ("peer", "protocol", *WORKLOAD_LABELS)}


def _one_or_each(values: list[str]) -> str:
    """One value if all are equal, else one per owner, in the order of their ids."""
    return quoted_list(values[:1] if len(set(values)) == 1 else values)


def _internal_values(key: SeriesKey) -> dict[str, str]:
    return {
        "cluster": quoted(key.owners[0].namespace if key.owners else OTHER),
        "protocol": quoted(key.protocol),
    }


_VALUES = {
    "deployment": _deployment_values,
    "shared": _shared_values,
    "unattributed": _unattributed_values,
    "internal": _internal_values,
}
