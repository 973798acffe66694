"""Maps of now, from snapshots, and of the past, from the peers of a window. Costs the engine nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from flowmap.export.series import SeriesKey
from flowmap.export.snapshot import Snapshot, by_visible_key
from flowmap.model.deployment import DeploymentInfo, State
from flowmap.model.traffic_map import Figures, MapDeployment, MapPeer, MapQuery, TrafficMap
from flowmap.model.views import PeerSeen, PeerWindow, Traffic
from flowmap.query.map.folding import Columns, Window, fold
from flowmap.query.map.grouping import Grouping, Left, Right, group, group_pairs
from flowmap.query.map.rates import Samples

PENDING = Left("pending", (), "pending"), Right("not decided yet", "")
"""The nodes of flows without a decision: their bytes are in no series yet."""
_KINDS = {State.ATTRIBUTED: "deployment", State.SHARED: "shared", State.INTERNAL: "internal"}


class LiveMap:
    """Makes maps of the newest snapshot. :meth:`sample` is for one thread, :meth:`build` for any."""

    def __init__(self) -> None:
        self._samples = Samples()
        self._grouped: tuple[tuple[SeriesKey | None, ...], Grouping] = ((), group(()))

    def sample(self, snapshot: Snapshot) -> None:
        """Note the counters, for rates; about once a second."""
        self._samples.add(snapshot)

    def build(self, snapshot: Snapshot, query: MapQuery) -> TrafficMap:
        """The map of a snapshot."""
        table = snapshot.series_table
        keys, grouping = self._grouped
        if keys is not table.keys:
            grouping = group(table.keys)
            self._grouped = table.keys, grouping
        rates = self._samples.rates()
        transmit, receive = (None, None) if rates is None else rates.of(table.keys)
        connections, still_open = table.connections.astype(np.int64), table.open_connections
        columns = Columns(table.transmit_bytes, table.receive_bytes, transmit, receive, connections, still_open)
        read_at = snapshot.taken_at - (snapshot.counter_age or 0.0)
        since, until = (None, read_at) if rates is None else (rates.since, rates.until)
        return fold(
            Window(since, until, True, grouping, columns.take(grouping.rows)),
            query,
            by_visible_key(snapshot.deployments),
            _pending(snapshot, query),
        )


def past_map(
    now: PeerWindow, before: PeerWindow | None, infos: Iterable[DeploymentInfo], query: MapQuery
) -> TrafficMap:
    """The map of a window, compared with an earlier one if there is one."""
    windows = [now] if before is None else [now, before]
    counts, left_out = _kind_of_bytes([one for window in windows for one in window.peers], query.counts)
    later = _by_pair(one for one in now.peers if one.counts == counts)
    earlier = None if before is None else _by_pair(one for one in before.peers if one.counts == counts)
    pairs = list(later | (earlier or {}))
    grouping = group_pairs(pairs)
    window = Window(
        now.since,
        now.until,
        False,
        grouping,
        _columns([later.get(pair) for pair in pairs]),
        None if earlier is None else _columns([earlier.get(pair) for pair in pairs]),
    )
    found = fold(window, query, {info.owner.key: info for info in infos})
    missing = dict.fromkeys(line for window in windows for line in window.incomplete)
    return replace(found, counts=counts, incomplete=(*missing, *left_out))


def _kind_of_bytes(peers: Sequence[PeerSeen], wanted: str | None) -> tuple[str, tuple[str, ...]]:
    """The kind of bytes to sum up: the wanted one, or that of most connections; and a line about the others.

    Bytes of IP packets and bytes of payload are never added up.
    """
    connections: Counter[str] = Counter()
    for one in peers:
        connections[one.counts] += one.traffic.connections
    ((kind, _),) = connections.most_common(1) or [("", 0)]
    chosen = kind if wanted is None else wanted
    others = connections.total() - connections[chosen]
    if wanted is not None or not others:
        return chosen, ()
    (other,) = connections.keys() - {chosen}
    return chosen, (f"{others:,} connections are left out: their bytes count {other}, not {chosen}",)


def _by_pair(peers: Iterable[PeerSeen]) -> dict[tuple[Left, Right], Traffic]:
    sums: dict[tuple[Left, Right], Traffic] = {}
    for one in peers:
        kind = _KINDS.get(one.state, "unattributed")
        left = Left(kind, one.owners, "") if one.state in _KINDS else Left(kind, (), one.state)
        pair = left, Right(one.peer, one.protocol)
        sums[pair] = sums.get(pair, Traffic()) + one.traffic
    return sums


def _columns(traffic: Sequence[Traffic | None]) -> Columns:
    rows = [one or Traffic() for one in traffic]
    return Columns(
        np.array([one.transmit_bytes for one in rows], np.uint64),
        np.array([one.receive_bytes for one in rows], np.uint64),
        None,
        None,
        np.array([one.connections for one in rows], np.int64),
        np.array([one.open_connections for one in rows], np.int64),
    )


def _pending(snapshot: Snapshot, query: MapQuery) -> list[tuple[MapDeployment, MapPeer]]:
    """The nodes of pending flows, where the query does not leave them out: their owners and peers are not known."""
    if query.by_owner or query.state not in (None, State.PENDING) or not snapshot.pending_flows:
        return []
    figures = Figures(
        snapshot.pending_transmit_bytes,
        snapshot.pending_receive_bytes,
        connections=snapshot.pending_flows,
        # Some have ended while they wait. Every other open flow is of a series.
        open_connections=max(0, snapshot.open_flows - int(snapshot.series_table.open_connections.sum())),
    )
    left, right = PENDING
    owner = MapDeployment(left.id, left.kind, "pending", left.reason, (), {}, figures)
    return [(owner, MapPeer(right.id, *right, figures))]
