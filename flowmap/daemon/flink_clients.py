"""Makes clients of open-source Flink clusters from the configuration, for the daemon and for commands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flowmap.config import FlinkClusterConfig, FlinkConfig
from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.control_plane import FlinkControlPlane
from flowmap.control.flink.deployments import Identity
from flowmap.control.flink.host import UNUSED, Host, Listener
from flowmap.control.flink.kubernetes import ApiServer, KubernetesClusters, access_of
from flowmap.control.flink.rest import Access, JobManagerRest
from flowmap.model.address import Address
from flowmap.system.addresses import own_addresses
from flowmap.system.cgroup_members import Groups, Member, holder_of


def flink_control_plane(settings: FlinkConfig) -> FlinkControlPlane:
    """The clusters of open-source Flink; ConfigError for a file that cannot be used."""
    identity = Identity(settings.identity)
    shared = settings.addresses == "shared"
    own = frozenset(map(Address.parse, own_addresses()))
    host: Host = _ThisHost() if settings.host == "auto" else UNUSED

    def make(access: Access) -> Cluster:
        return Cluster(
            JobManagerRest(access), identity, poll=settings.poll, own_addresses=own, shared=shared, host=host
        )

    asked, discovery = settings.kubernetes, None
    if asked.enabled:
        api = access_of(asked.api)
        discovery = KubernetesClusters(lambda: ApiServer(api), asked.namespaces, asked.selector, make)
    clusters = [make(_access(one)) for one in settings.clusters]
    return FlinkControlPlane(clusters, poll=settings.poll, discovery=discovery)


class _ThisHost:
    """Implements ``flowmap.control.flink.host.Host``. Commands that list need no sources: they are imported late."""

    def __init__(self) -> None:
        self._groups = Groups()

    def listeners(self) -> Iterable[Listener]:
        from flowmap.sources.sockets.listening import read_listening

        return [Listener(*one) for one in read_listening()]

    def members(self, cgroups: Collection[int]) -> Mapping[int, tuple[Member, ...]]:
        return self._groups.members(cgroups)

    def holder_of(self, group: tuple[Member, ...], inode: int) -> int | None:
        return holder_of(group, inode)


def _access(cluster: FlinkClusterConfig) -> Access:
    login = cluster.basic_auth
    return Access(
        cluster.name,
        cluster.urls,
        cluster.path_prefix,
        cluster.tls.ca_file,
        cluster.tls.cert_file,
        cluster.tls.key_file,
        cluster.bearer_token_file,
        None if login is None else login.username,
        None if login is None else login.password_file,
    )
