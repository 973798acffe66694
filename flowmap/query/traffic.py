"""Traffic by peer and by deployment, summed from the series of a snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from flowmap.export.snapshot import SeriesSnapshot
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.views import DeploymentView, PeerTraffic, Traffic


def all_peers(series_table: SeriesSnapshot) -> tuple[PeerTraffic, ...]:
    """Every peer, with the deployments that talk to it."""
    traffic: defaultdict[tuple[str, str], Traffic] = defaultdict(Traffic)
    owners: defaultdict[tuple[str, str], set[Owner]] = defaultdict(set)
    for row, key in enumerate(series_table.keys):
        if key is not None and key.peer:
            place = (key.peer, key.protocol)
            traffic[place] += series_table.traffic(row)
            owners[place].update(key.owners)
    return tuple(
        PeerTraffic(peer, protocol, traffic[peer, protocol], tuple(sorted(owners[peer, protocol])))
        for peer, protocol in sorted(traffic)
    )


def deployment_views(
    series_table: SeriesSnapshot, infos: Sequence[DeploymentInfo], *, health: bool
) -> Iterator[DeploymentView]:
    """Every deployment with traffic; ``infos`` are their descriptions. ``health``: whether a source reports it."""
    own: defaultdict[Owner, list[PeerTraffic]] = defaultdict(list)
    shared: defaultdict[Owner, list[PeerTraffic]] = defaultdict(list)
    for row, key in enumerate(series_table.keys):
        if key is not None:
            for owner in key.owners:
                alone = key.kind == "deployment"
                tcp = series_table.health(row) if health and alone and key.protocol in ("tcp", "") else None
                peer = PeerTraffic(key.peer, key.protocol, series_table.traffic(row), key.owners, tcp)
                (own if alone else shared)[owner].append(peer)
    known: defaultdict[tuple[str, str], list[DeploymentInfo]] = defaultdict(list)
    for info in infos:
        known["id", info.owner.deployment_id].append(info)
        known["name", info.owner.name].append(info)
    for owner in sorted(own.keys() | shared.keys()):
        peers = tuple(sorted(own[owner], key=lambda peer: peer.peer))
        traffic = sum((one.traffic for one in peers), Traffic())
        yield DeploymentView(_info_of(owner, known), traffic, peers, tuple(shared[owner]))


def _info_of(owner: Owner, known: Mapping[tuple[str, str], list[DeploymentInfo]]) -> DeploymentInfo:
    """The description that fits the labels of a series. Configured labels may not identify one deployment."""
    place = ("id", owner.deployment_id) if owner.deployment_id else ("name", owner.name)
    fitting = [info for info in known.get(place, ()) if owner.namespace in ("", info.owner.namespace)]
    if owner.workspace:
        fitting = [info for info in fitting if info.owner.workspace == owner.workspace]
    return fitting[0] if len(fitting) == 1 else DeploymentInfo(owner)
