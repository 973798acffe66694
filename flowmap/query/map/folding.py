"""Sums rows up to the nodes and links of a map: the largest ones, and ``others`` with the exact rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.model.deployment import DeploymentInfo, DeploymentKey
from flowmap.model.traffic_map import (
    OTHERS,
    Figures,
    MapDeployment,
    MapLink,
    MapPeer,
    MapQuery,
    Order,
    TrafficMap,
)
from flowmap.query.map.grouping import Grouping, Left, Mask, Numbers

Floats = npt.NDArray[np.float64]
Infos = Mapping[DeploymentKey, DeploymentInfo]

MOST_NAMESPACES = 200
_RATES = (Order.RATE, Order.TRANSMIT_RATE, Order.RECEIVE_RATE)


class Columns(NamedTuple):
    """The figures of rows, one array each; the rates are None if they are not known."""

    transmit_bytes: npt.NDArray[np.uint64]
    receive_bytes: npt.NDArray[np.uint64]
    transmit_rate: Floats | None
    receive_rate: Floats | None
    connections: npt.NDArray[np.int64]
    open_connections: npt.NDArray[np.int64]

    def take(self, rows: Numbers) -> Columns:
        """The figures of some rows."""
        return Columns(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]

    def summed(self, groups: Numbers, size: int) -> list[Figures]:
        """The sums of the rows of each group; all but the rates are exact."""
        columns = (_sums(part, groups, size) for part in self)
        return [Figures(*row) for row in zip(*columns, strict=True)]

    def sizes(self, order: Order) -> Floats:
        """What makes a row large. Without rates, its bytes."""
        transmit, receive = self.transmit_bytes.astype(np.float64), self.receive_bytes.astype(np.float64)
        if order in _RATES and self.transmit_rate is not None and self.receive_rate is not None:
            transmit, receive = self.transmit_rate, self.receive_rate
        match order:
            case Order.TRANSMIT_RATE | Order.TRANSMIT_BYTES:
                return transmit
            case Order.RECEIVE_RATE | Order.RECEIVE_BYTES:
                return receive
            case Order.OPEN_CONNECTIONS:
                return self.open_connections.astype(np.float64)
        return transmit + receive


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The rows of one window of time."""

    since: float | None
    until: float
    live: bool
    grouping: Grouping
    columns: Columns
    """As long as ``grouping.rows``."""
    before: Columns | None = None
    """The same rows in the earlier window of a comparison."""


def fold(
    window: Window, query: MapQuery, infos: Infos, extra: Sequence[tuple[MapDeployment, MapPeer]] = ()
) -> TrafficMap:
    """The map of a window. ``extra``: nodes, each with one link, that are not among the rows."""
    grouping = window.grouping
    rows = np.flatnonzero(grouping.passing(query, infos))
    left_of, right_of, columns = grouping.left_of[rows], grouping.right_of[rows], window.columns.take(rows)
    before = None if window.before is None else window.before.take(rows)
    sizes, changes = columns.sizes(query.order), np.zeros(len(rows), np.int8)
    if before is not None:
        changes[before.connections == 0] = 1
        changes[columns.connections == 0] = -1
        sizes = np.maximum(sizes, before.sizes(query.order))
        sizes = sizes + np.where(changes != 0, sizes.sum() + 1, 0)  # what changed is always among the largest
    can_fold = np.fromiter((one.foldable for one in grouping.left), np.bool_, len(grouping.left))
    left = _Side(left_of, sizes, can_fold, query.limit)
    right = _Side(right_of, sizes, np.ones(len(grouping.right), np.bool_), query.limit)
    ids = [grouping.left[place].id for place in left.shown], [grouping.right[place].id for place in right.shown]
    deployments = [
        _deployment(grouping.left[place], ids[0][number], figures, infos)
        for number, (place, figures) in enumerate(zip(left.shown, left.sums(columns), strict=False))
    ]
    peers = [
        MapPeer(ids[1][number], *grouping.right[place], figures)
        for number, (place, figures) in enumerate(zip(right.shown, right.sums(columns), strict=False))
    ]
    if left.folded:
        rest = left.sums(columns)[-1]
        deployments.append(MapDeployment(OTHERS, OTHERS, OTHERS, "", (), {}, rest, left.folded))
    if right.folded:
        peers.append(MapPeer(OTHERS, OTHERS, "", right.sums(columns)[-1], right.folded))
    links = _links(left, right, columns, before, changes, ([*ids[0], OTHERS], [*ids[1], OTHERS]))
    for deployment, peer in extra:
        deployments.append(deployment)
        peers.append(peer)
        links.append(MapLink(deployment.id, peer.id, deployment.figures))
    return TrafficMap(
        since=window.since,
        until=window.until,
        live=window.live,
        deployments=tuple(deployments),
        peers=tuple(peers),
        links=tuple(links),
        total=_with(columns.summed(np.zeros(len(rows), np.intp), 1)[0], [one.figures for one, _ in extra]),
        namespaces=tuple(sorted({owner.namespace for one in grouping.left for owner in one.owners})[:MOST_NAMESPACES]),
        new=int(np.count_nonzero(changes > 0)),
        gone=int(np.count_nonzero(changes < 0)),
    )


class _Side:
    """One side of the map: which nodes are shown, in order, and where each row belongs."""

    def __init__(self, node_of: Numbers, sizes: Floats, can_fold: Mask, limit: int) -> None:
        """``node_of``: the node of each row. ``can_fold``: of each node."""
        count = len(can_fold)
        present = np.bincount(node_of, minlength=count) > 0
        weights = np.bincount(node_of, sizes, count)
        ranked = np.argsort(-weights, kind="stable")
        ranked = ranked[present[ranked]]
        large, kept = ranked[can_fold[ranked]], ranked[~can_fold[ranked]]
        self.shown: list[int] = [*large[:limit].tolist(), *kept.tolist()]
        self.folded = max(0, len(large) - limit)
        place = np.full(count, len(self.shown), np.intp)
        place[self.shown] = np.arange(len(self.shown))
        self.places: Numbers = place[node_of]
        """The position in ``shown`` of each row's node; ``len(shown)`` for the others."""

    def sums(self, columns: Columns) -> list[Figures]:
        """The figures of the shown nodes; those of the others are the last."""
        return columns.summed(self.places, len(self.shown) + 1)


def _links(
    left: _Side,
    right: _Side,
    columns: Columns,
    before: Columns | None,
    changes: npt.NDArray[np.int8],
    ids: tuple[Sequence[str], Sequence[str]],
) -> list[MapLink]:
    width = len(right.shown) + 1
    pairs, group = np.unique(left.places * width + right.places, return_inverse=True)
    group = group.reshape(-1)
    figures = columns.summed(group, len(pairs))
    earlier: Sequence[Figures | None] = [None] * len(pairs) if before is None else before.summed(group, len(pairs))
    most, least = np.full(len(pairs), -1), np.full(len(pairs), 1)
    np.maximum.at(most, group, changes)
    np.minimum.at(least, group, changes)
    words = ["new" if low > 0 else "gone" if high < 0 else "" for low, high in zip(least, most, strict=True)]
    return [
        MapLink(ids[0][pair // width], ids[1][pair % width], now, change, then)
        for pair, now, change, then in zip(pairs.tolist(), figures, words, earlier, strict=True)
    ]


def _deployment(one: Left, node_id: str, figures: Figures, infos: Infos) -> MapDeployment:
    info = infos.get(one.owners[0].key) if one.kind == "deployment" and one.owners else None
    labels = {} if info is None else info.labels
    return MapDeployment(node_id, one.kind, one.name, one.reason, one.owners, labels, figures)


def _with(total: Figures, more: Sequence[Figures]) -> Figures:
    for one in more:
        total = total._replace(
            transmit_bytes=total.transmit_bytes + one.transmit_bytes,
            receive_bytes=total.receive_bytes + one.receive_bytes,
            connections=total.connections + one.connections,
            open_connections=total.open_connections + one.open_connections,
        )
    return total


def _sums(column: npt.NDArray[np.generic] | None, groups: Numbers, size: int) -> list[object]:
    if column is None:
        return [None] * size
    sums = np.zeros(size, column.dtype)
    np.add.at(sums, groups, column)
    listed: list[object] = sums.tolist()
    return listed
