"""Clusters of open-source Flink that run in Kubernetes, from the labels of their JobManagers' pods.

Flink itself and its operator label pods alike: ``app`` is the cluster id, ``component`` is ``jobmanager``, ``type`` is
``flink-native-kubernetes`` or ``flink-standalone-kubernetes``. The REST interface is the service ``<cluster-id>-rest``.
Where FlinkDeployments can be read, a cluster counts only once the operator says that its JobManager is ready.
FlinkSessionJobs name the jobs of session clusters. All three are listed once and then watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.rest import Access, read_secret, tls_context
from flowmap.control.flink.watching import LINE_LIMIT, LIST_TIMEOUT, SILENCE, Api, Resource, run_all
from flowmap.control.http.route import Route
from flowmap.control.http.transport import HttpTransport
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import ConfigError, ControlError, Transient

REST_PORT = 8081
TYPES = ("flink-native-kubernetes", "flink-standalone-kubernetes")
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
IN_CLUSTER = "in-cluster"
READY = "READY"
_OPERATOR = "apis/flink.apache.org/v1beta1"


@dataclass(frozen=True, slots=True)
class KubernetesAccess:
    """The API server."""

    url: str
    token_file: str | None = None
    ca_file: str | None = None


def access_of(api: str, environ: Mapping[str, str] = os.environ) -> KubernetesAccess:
    """The API server that ``flink.kubernetes.api`` names; ConfigError outside a pod for ``in-cluster``."""
    if api != IN_CLUSTER:
        return KubernetesAccess(api.rstrip("/"))
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("flink.kubernetes.api: in-cluster works in a pod only; give the URL of the API server")
    host = f"[{host}]" if ":" in host else host
    return KubernetesAccess(f"https://{host}:{port}", f"{SERVICE_ACCOUNT}/token", f"{SERVICE_ACCOUNT}/ca.crt")


class FoundCluster(NamedTuple):
    """A cluster in Kubernetes."""

    namespace: str
    cluster_id: str

    @property
    def name(self) -> str:
        """Cluster ids are unique within a namespace only."""
        return f"{self.namespace}/{self.cluster_id}"

    @property
    def access(self) -> Access:
        return Access(self.name, (f"http://{self.cluster_id}-rest.{self.namespace}:{REST_PORT}",))


class ApiServer:
    """Exchanges with the API server, with the token as it is now."""

    def __init__(self, access: KubernetesAccess) -> None:
        """ConfigError for an unusable file."""
        self._access = access
        files = Access("kubernetes", (), ca_file=access.ca_file)
        self._transport = HttpTransport(Route(tls=tls_context(files)))

    async def get(self, path: str) -> HttpReply:
        return await self._transport.send("GET", self._url(path), self._headers(), timeout=LIST_TIMEOUT)

    def lines(self, path: str) -> AsyncIterator[bytes]:
        return self._transport.lines(self._url(path), self._headers(), silence=SILENCE, limit=LINE_LIMIT)

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _url(self, path: str) -> str:
        return f"{self._access.url}/{path}"

    def _headers(self) -> Mapping[str, str]:
        token = self._access.token_file
        return {} if token is None else {"authorization": f"Bearer {read_secret(token)}"}


class KubernetesClusters:
    """Finds the clusters. Used in one event loop."""

    def __init__(
        self,
        api: Callable[[], Api],
        namespaces: Sequence[str],
        selector: str,
        make: Callable[[Access], Cluster],
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``api``: makes a client of the API server, one for each resource since each holds a connection.
        ``namespaces``: empty for all. ``selector``: of the JobManagers' pods. ``make``: makes a cluster to read."""
        self._make = make
        self._known: Mapping[str, Cluster] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._apis: list[Api] = []

        def resources(path: str, query: Mapping[str, str]) -> list[Resource]:
            scopes = [f"namespaces/{name}/" for name in namespaces] or [""]
            made = [api() for _ in scopes]
            self._apis += made
            return [
                Resource(one, path.format(scope), query, changed=self._news.set, clock=clock)
                for one, scope in zip(made, scopes, strict=True)
            ]

        self._pods = resources("api/v1/{}pods", {"labelSelector": selector})
        self._deployments = resources(f"{_OPERATOR}/{{}}flinkdeployments", {})
        self._session_jobs = resources(f"{_OPERATOR}/{{}}flinksessionjobs", {})

    @property
    def operator_error(self) -> str:
        """Why objects of the operator are not read; they are not needed. Empty if they are."""
        errors = (one.error for one in (*self._deployments, *self._session_jobs))
        return next((str(error) for error in errors if error is not None), "")

    def start(self) -> None:
        """Begin to watch, in the running loop. Later calls do nothing."""
        if self._task is None:
            every = [*self._pods, *self._deployments, *self._session_jobs]
            self._task = asyncio.get_running_loop().create_task(run_all(every), name="kubernetes watches")

    async def changed(self, within: float) -> None:
        """Wait until there may be other clusters, at most ``within`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), within)
        self._news.clear()

    async def find(self) -> Mapping[str, Cluster]:
        """The clusters whose JobManager is ready; ControlError if the pods are not known, or not up to date."""
        if self._task is None:
            await self._read_once()
        for one in self._pods:
            if one.error is not None:
                raise one.error
            if not one.synced:
                raise Transient("the pods are not listed yet")
        found = {one.name: one for one in self.clusters()}
        self._known = {name: self._known.get(name) or self._make(one.access) for name, one in found.items()}
        labels = self.session_jobs()
        for cluster in self._known.values():
            cluster.resources = labels
        return self._known

    def clusters(self) -> tuple[FoundCluster, ...]:
        """What the objects show, in their order."""
        pods = (pod for resource in self._pods for pod in resource.objects.values())
        found = dict.fromkeys(one for pod in pods if (one := _of_pod(pod)) is not None)
        unready = {
            FoundCluster(str(one["metadata"].get("namespace")), str(one["metadata"].get("name")))
            for resource in self._deployments
            for one in resource.objects.values()
            if (one.get("status") or {}).get("jobManagerDeploymentStatus") != READY
        }
        return tuple(one for one in found if one not in unready)

    def session_jobs(self) -> Mapping[str, str]:
        """The names of FlinkSessionJobs by the id of their job, as far as the operator reports it."""
        jobs = [one for resource in self._session_jobs for one in resource.objects.values()]
        ids = [((one.get("status") or {}).get("jobStatus") or {}).get("jobId") for one in jobs]
        return {str(job): str(one["metadata"].get("name")) for job, one in zip(ids, jobs, strict=True) if job}

    async def aclose(self) -> None:
        """End the watches and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for one in self._apis:
            await one.aclose()

    async def _read_once(self) -> None:
        for one in self._pods:
            await one.read()
        for one in (*self._deployments, *self._session_jobs):
            try:
                await one.read()
            except ControlError as error:
                one.error = error  # no operator here, or no right to read


def _of_pod(pod: Mapping[str, Any]) -> FoundCluster | None:
    """The cluster of a JobManager's pod; None for a pod that does not run, or is not Flink's."""
    metadata, status = pod.get("metadata", {}), pod.get("status", {})
    labels = metadata.get("labels", {})
    known = labels.get("type") in TYPES and labels.get("app")
    if known and status.get("phase") == "Running" and "deletionTimestamp" not in metadata:
        return FoundCluster(str(metadata.get("namespace")), str(labels["app"]))
    return None
