"""Workloads: the container, unit and process behind a socket of this host. All values are immutable."""

from __future__ import annotations

from typing import Literal, NamedTuple

from flowmap.model.namespace import HOST

UNKNOWN = "unknown"
Side = Literal["client", "server"]


class Workload(NamedTuple):
    """What is known about the processes that hold a socket. None: not known, or there is none."""

    cgroup: str | None = None
    """Path of its cgroup below the mount of the cgroup v2 tree; ``/`` is the root."""
    container: str | None = None
    """Id of the container, as its runtime knows it. Of nested containers the outermost one."""
    pod: str | None = None
    """UID of the Kubernetes pod."""
    unit: str | None = None
    """systemd unit: a service or a scope."""
    runtime: str | None = None
    """``containerd``, ``cri-o``, ``docker``, ``podman``, …; of a container."""
    pid: int | None = None
    command: str | None = None
    unknown: str = ""
    """Why a part is not known; empty if every part is known or does not exist."""
    cgroup_id: int = 0
    """Inode of the cgroup's directory; 0 if the kernel did not report one. Never reused while the host runs."""
    namespace: str = HOST
    """Network namespace of the socket."""
    container_name: str | None = None
    """Name of the container in its pod."""
    pod_name: str | None = None
    """``namespace/name`` of the pod."""
    process_began: int = 0
    """Clock ticks after boot at which the process began. 0 if it is not known, or if it was not seen to hold the socket
    alone, in the socket's cgroup."""

    @property
    def labels(self) -> tuple[str, str]:
        """Container (its name, else its id) and unit as labels: empty if there is none, ``unknown`` if not known."""
        known = self.cgroup not in (None, "/")
        name = (self.cgroup or "").rpartition("/")[2]
        unit_known = known and not name.endswith((".service", ".scope"))
        container = self.container_name or self.container
        return container or ("" if known else UNKNOWN), self.unit or ("" if unit_known else UNKNOWN)

    def is_called(self, container: str) -> bool:
        """Whether ``container`` is the name of the container, its id, or the start of it (12 characters at least)."""
        if self.container is None:
            return False
        return container in (self.container, self.container_name) or (
            len(container) >= 12 and self.container.startswith(container)
        )


CONFLICT = 1
"""The number of workloads that contradict each other: two sockets had the endpoints of one flow."""
CONFLICTING = Workload(unknown="two sockets with these endpoints were seen in different cgroups")


class Local(NamedTuple):
    """The workload at one endpoint of a flow."""

    side: Side
    workload: Workload
