"""Clusters of open-source Flink that run in Kubernetes, from the labels of their JobManagers' pods.

Flink itself and its operator label pods alike: ``app`` is the cluster id, ``component`` is ``jobmanager``, ``type`` is
``flink-native-kubernetes`` or ``flink-standalone-kubernetes``. The REST interface is the service ``<cluster-id>-rest``.
Where FlinkDeployments can be read, a cluster counts only once the operator says that its JobManager is ready.

The lists are read again and again with ``resourceVersion=0``, so the API server answers from its cache.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.replies import json_of
from flowmap.control.flink.rest import Access, read_secret, tls_context
from flowmap.control.http.route import Route
from flowmap.control.http.transport import HttpTransport
from flowmap.control.http.transport_api import Transport
from flowmap.errors import AuthError, ConfigError, ProtocolError, Transient

TIMEOUT = 10.0
REST_PORT = 8081
TYPES = ("flink-native-kubernetes", "flink-standalone-kubernetes")
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
IN_CLUSTER = "in-cluster"
_DEPLOYMENTS = "apis/flink.apache.org/v1beta1"


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


class KubernetesClusters:
    """Finds the clusters. Used in one event loop."""

    def __init__(
        self,
        api: KubernetesAccess,
        namespaces: Sequence[str],
        selector: str,
        make: Callable[[Access], Cluster],
        *,
        transport: Transport | None = None,
    ) -> None:
        """``namespaces``: empty for all. ``selector``: of the JobManagers' pods. ``make``: makes a cluster to read.
        ConfigError for an unusable file."""
        self.operator_error = ""
        """Why FlinkDeployments were not read last; they are not needed."""
        self._api = api
        self._namespaces = tuple(namespaces)
        self._selector = selector
        self._make = make
        self._known: Mapping[str, Cluster] = {}
        files = Access("kubernetes", (), ca_file=api.ca_file)
        self._transport = HttpTransport(Route(tls=tls_context(files))) if transport is None else transport

    async def find(self) -> Mapping[str, Cluster]:
        """The clusters whose JobManager is ready; ControlError if the pods cannot be listed."""
        found = {one.name: one for one in await self.list_clusters()}
        self._known = {name: self._known.get(name) or self._make(one.access) for name, one in found.items()}
        return self._known

    async def list_clusters(self) -> tuple[FoundCluster, ...]:
        """What the lists show, in their order."""
        found = dict.fromkeys([one async for one in self._pods()])
        unready = await self._unready()
        return tuple(one for one in found if one not in unready)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _pods(self) -> AsyncIterator[FoundCluster]:
        for scope in self._scopes():
            query = urlencode({"labelSelector": self._selector, "resourceVersion": "0"})
            for pod in _items(await self._get(f"api/v1/{scope}pods?{query}")):
                metadata, status = pod.get("metadata", {}), pod.get("status", {})
                labels = metadata.get("labels", {})
                known = labels.get("type") in TYPES and labels.get("app")
                if known and status.get("phase") == "Running" and "deletionTimestamp" not in metadata:
                    yield FoundCluster(str(metadata.get("namespace")), str(labels["app"]))

    async def _unready(self) -> set[FoundCluster]:
        """Clusters of the operator whose JobManager is not ready: its REST cannot be used then."""
        unready: set[FoundCluster] = set()
        self.operator_error = ""
        for scope in self._scopes():
            try:
                items = list(_items(await self._get(f"{_DEPLOYMENTS}/{scope}flinkdeployments?resourceVersion=0")))
            except (AuthError, ProtocolError, Transient) as error:
                self.operator_error = str(error)  # no operator here, or no right to read
                continue
            for one in items:
                metadata, status = one.get("metadata", {}), one.get("status") or {}
                if status.get("jobManagerDeploymentStatus") != "READY":
                    unready.add(FoundCluster(str(metadata.get("namespace")), str(metadata.get("name"))))
        return unready

    def _scopes(self) -> Sequence[str]:
        return [f"namespaces/{name}/" for name in self._namespaces] or [""]

    async def _get(self, path: str) -> object:
        token = self._api.token_file
        headers = {} if token is None else {"authorization": f"Bearer {read_secret(token)}"}
        reply = await self._transport.send("GET", f"{self._api.url}/{path}", headers, timeout=TIMEOUT)
        where = f"the Kubernetes API at /{path.partition('?')[0]}"
        return json_of(reply.status, reply.body, where)


def _items(answer: object) -> Iterator[dict[str, Any]]:
    items = answer.get("items") if isinstance(answer, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ProtocolError("the Kubernetes API did not answer with a list")
    yield from items
