"""Clusters of open-source Flink as a control plane: questions are answered from the pictures of the clusters.

A question about an endpoint waits for the next reading of every cluster that could have it, and for a sign of life of
the TaskManagers at its address. So its answer is never older than the question, and it costs no call of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.deployments import described_job, listed_deployments
from flowmap.control.flink.picture import KEEP, merge
from flowmap.control.port import ControlStatus, ListedDeployment, Listing, OwnersAnswer
from flowmap.errors import ControlError, Transient
from flowmap.model.address import Endpoint
from flowmap.model.deployment import FLINK, FLINK_ROLES, DeploymentInfo, Job, Owner, Role
from flowmap.model.tenure import Holders, Tenure

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two looks for clusters at most."""

WAIT = 10.0
"""Longest wait in seconds of a question for a reading, besides the time between two readings."""


class Discovery(Protocol):
    """Finds clusters that the configuration does not name."""

    def start(self) -> None:
        """Begin what runs in the background, in the running loop. Later calls do nothing."""

    async def find(self) -> Mapping[str, Cluster]:
        """The clusters by name; the same object for the same cluster. ControlError if the search fails."""

    async def changed(self, within: float) -> None:
        """Wait until there may be other clusters, at most ``within`` seconds."""

    async def aclose(self) -> None: ...


class FlinkControlPlane:
    """Implements ``flowmap.control.port.ControlPlane`` with pictures of clusters."""

    def __init__(
        self,
        clusters: Sequence[Cluster],
        *,
        poll: float,
        discovery: Discovery | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``poll``: seconds between two readings of a cluster. ``discovery`` finds clusters beside the given ones."""
        self.clusters: dict[str, Cluster] = {cluster.name: cluster for cluster in clusters}
        self.discovery_error: ControlError | None = None
        """Why the last search for clusters failed; those found before are still read."""
        self._discovery = discovery
        self._discovered = discovery is None
        self._found: set[str] = set()
        self._retired: list[tuple[float, Cluster]] = []
        self._poll = poll
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def endpoint(self) -> str:
        return ", ".join(cluster.rest.url for cluster in self.clusters.values())

    @property
    def workspace(self) -> str:
        return FLINK

    def start(self) -> None:
        """Begin to read the clusters, in the running loop. Later calls do nothing."""
        if self._discovery is not None and "" not in self._tasks:
            self._tasks[""] = asyncio.get_running_loop().create_task(self._discover(), name="flink discovery")
        for name, cluster in self.clusters.items():
            if name not in self._tasks:
                self._tasks[name] = asyncio.get_running_loop().create_task(cluster.run(), name=f"flink {name}")

    async def look_for_clusters(self) -> None:
        """Look for clusters once; those that are gone are read no more, but their past stays known for an hour."""
        assert self._discovery is not None, "there is a discovery"
        try:
            found = await self._discovery.find()
        except ControlError as error:
            self.discovery_error = error
            return
        self.discovery_error, self._discovered = None, True
        self.clusters |= {name: found[name] for name in found.keys() - self.clusters.keys()}
        for name in self._found - found.keys():
            if task := self._tasks.pop(name, None):
                task.cancel()
            cluster = self.clusters.pop(name)
            now = self._clock.monotonic()
            cluster.retire(now)
            self._retired.append((now, cluster))
        self._found = set(found)

    async def _discover(self) -> None:
        assert self._discovery is not None, "there is a discovery"
        self._discovery.start()
        while True:
            try:
                await self.look_for_clusters()
            except Exception:  # a defect must not end the discovery
                log.exception("cannot look for clusters")
            self.start()
            await self._discovery.changed(EVERY)

    async def find_owners(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> OwnersAnswer:
        """Who had ``source``'s address, or what ``destination`` is to a cluster; one of them is given."""
        self.start()
        asked, asked_at = self._clock.monotonic(), self._clock.wall()
        given = destination if source is None else source
        assert given is not None, "a question is about an endpoint"
        read = await asyncio.gather(
            *(cluster.reading_since(asked, within=self._poll + WAIT) for cluster in self.clusters.values()),
            return_exceptions=True,
        )
        for failure in read:
            if isinstance(failure, BaseException) and not isinstance(failure, ControlError):
                raise failure
        await asyncio.gather(*(cluster.prove_alive(given.address, asked) for cluster in self.clusters.values()))
        holders = self._of_service(given, asked) if source is None else self._holders(Endpoint(given.address, 0))
        if holders.known_until < asked:
            raise self._undecided(given)
        owners = [tenure.owner for tenure in holders.tenures if tenure.gone_at == math.inf]
        deployments = tuple(self._described(owner) for owner in owners if owner.workspace == FLINK)
        roles = frozenset(owner for owner in owners if owner.workspace == FLINK_ROLES)
        return OwnersAnswer(deployments, asked_at, self._clock.wall(), roles=roles, holders=holders)

    def _holders(self, at: Endpoint) -> Holders:
        """The answers of all clusters about an address, combined."""
        now = self._clock.monotonic()
        parts = [(cluster.holders(at), cluster.up) for cluster in self.clusters.values()]
        if not self._discovered:  # an address could be of a cluster that is not found yet
            parts.append((Holders((), -math.inf, -math.inf), False))
        found = merge([*parts, *((holders, False) for holders in self._past(at))])
        if not parts:  # no cluster at all: no address has an owner
            found = found._replace(known_from=now, known_until=now)
        return found

    def _past(self, at: Endpoint) -> list[Holders]:
        """What clusters that are gone had."""
        now = self._clock.monotonic()
        self._retired = [(gone_at, cluster) for gone_at, cluster in self._retired if now - gone_at < KEEP]
        return [cluster.holders(at)._replace(known_until=math.inf) for _, cluster in self._retired]

    def _of_service(self, endpoint: Endpoint, asked: float) -> Holders:
        """What an endpoint and its address are to the clusters.

        A cluster that cannot be read now gives a role of its own. It matters only for its possible processes.
        """
        tenures: list[Tenure] = []
        known_from, known_until = -math.inf, math.inf
        for cluster in self.clusters.values():
            at = cluster.picture.holders(endpoint), cluster.picture.holders(Endpoint(endpoint.address, 0))
            tenures += [one for part in at for one in part.tenures if one.owner.workspace == FLINK_ROLES]
            until = min(part.known_until for part in at)
            if until >= asked:
                known_from = max(known_from, *(part.known_from for part in at))
                known_until = min(known_until, until)
            else:
                tenures.append(Tenure(Role.UNREAD.of(cluster.name), until, asked, math.inf))
        for past in (*self._past(endpoint), *self._past(Endpoint(endpoint.address, 0))):
            tenures += [one for one in past.tenures if one.owner.workspace == FLINK_ROLES]
        return Holders(tuple(tenures), known_from, min(known_until, self._clock.monotonic()))

    def _undecided(self, endpoint: Endpoint) -> ControlError:
        down = [f"{name}: {cluster.error}" for name, cluster in self.clusters.items() if cluster.error is not None]
        if self.discovery_error is not None:
            down.append(str(self.discovery_error))
        settling = [name for name, cluster in self.clusters.items() if not cluster.picture.settled]
        why = "; ".join(down) or f"{', '.join(settling)}: TaskManagers have not registered again"
        return Transient(
            f"{endpoint.address} could belong to a cluster that cannot be read: {why}", retry_after=self._poll
        )

    def _described(self, owner: Owner) -> DeploymentInfo:
        listed = self._listed(owner.namespace, owner)
        if not listed:
            return DeploymentInfo(owner, seen_at=self._clock.wall())
        one = listed[0]
        # A job that has a slot may own connections, whatever the overview says about its state.
        return DeploymentInfo(
            owner,
            execution_mode=one.execution_mode,
            engine_version=one.engine_version,
            labels=one.labels or {},
            seen_at=self._clock.wall(),
        )

    def _listed(self, namespace: str, owner: Owner | None = None) -> tuple[ListedDeployment, ...]:
        cluster = self.clusters[namespace]
        jobs = ((cluster.owner(job.id), job) for job in cluster.jobs.values())
        asked = ((of, job) for of, job in jobs if owner in (None, of))
        return listed_deployments(asked, cluster.version, resources=cluster.resources)

    async def list_deployments(self, workspace: str, namespace: str) -> Listing[ListedDeployment]:
        """The deployments of one cluster, those whose jobs have ended included."""
        await self._cluster(namespace)
        return Listing(self._listed(namespace))

    async def list_jobs(self, workspace: str, namespace: str, deployment_id: str) -> Listing[Job]:
        """The jobs of a deployment that the cluster still lists, or that were seen since the start."""
        cluster = await self._cluster(namespace)
        own = [job for job in cluster.jobs.values() if cluster.owner(job.id).deployment_id == deployment_id]
        return Listing(tuple(described_job(job) for job in own))

    async def _cluster(self, name: str) -> Cluster:
        self.start()
        cluster = self.clusters.get(name)
        if cluster is None:
            raise Transient(f"no cluster {name!r} is known")
        if cluster.read_at is None or not cluster.up:
            await cluster.reading_since(self._clock.monotonic(), within=self._poll + WAIT)
        return cluster

    def status(self) -> ControlStatus:
        """Clusters are read on their own, so nothing rests; the clock is that of the cluster farthest off."""
        clusters = tuple(cluster.status() for cluster in tuple(self.clusters.values()))
        skews = [one.clock_skew_seconds for one in clusters if one.clock_skew_seconds is not None]
        return ControlStatus(clock_skew=max(skews, key=abs, default=None), clusters=clusters)

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for cluster in self.clusters.values():
            await cluster.aclose()
        for _, cluster in self._retired:
            await cluster.aclose()
        if self._discovery is not None:
            await self._discovery.aclose()
