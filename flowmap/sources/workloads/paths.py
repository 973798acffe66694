"""The container, pod and unit that the path of a cgroup names. Pure.

The outermost container counts: what is inside a container's cgroup is named by the container, not by the host.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ID = r"(?P<id>[0-9a-f]{64})"
_RUNTIMES = {
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
    "libpod-payload": "podman",
    "nerdctl": "containerd",
}
# Name of a directory, and the runtime that gives it.
_SCOPE = re.compile(rf"(?P<prefix>{'|'.join(_RUNTIMES)})-{_ID}(\.scope)?")
_NAMED = (
    (re.compile(r"runc-(?P<id>[A-Za-z0-9_.+-]+)\.scope"), "runc"),
    (re.compile(r"crun-(?P<id>[A-Za-z0-9_.+-]+)\.scope"), "crun"),
    (re.compile(r"lxc\.payload\.(?P<id>[^/]+)"), "lxc"),
    (re.compile(r"systemd-nspawn@(?P<id>[^/]+)\.service"), "systemd-nspawn"),
)
_BARE = re.compile(_ID)
# containerd and runc without the systemd driver, where kubelet or Docker has it: the slice is a part of the name.
_JOINED = re.compile(rf"(?P<slice>[^:/]+\.slice):(?P<prefix>{'|'.join(_RUNTIMES)}):{_ID}")
_PODS = re.compile(r"(?:[A-Za-z0-9_.-]+-)?kubepods(?:\.slice)?")  # kubelet's cgroup-root comes before it
_POD = re.compile(
    r"(?:(?:[A-Za-z0-9_.-]+-)?kubepods(?:-burstable|-besteffort)?-)?pod(?P<uid>[0-9a-f_-]{32,36})(?:\.slice)?"
)
_UNIT = re.compile(r"[^/]+\.(?:service|scope)")
_PARENTS = {"docker": "docker", "k8s.io": "containerd", "default": "containerd", "libpod_parent": "podman"}
"""Directories of drivers without systemd that hold one directory, named by its id, for each container. In another
directory the id tells the container, but not its runtime."""
_SERVICES_OF_RUNTIMES = frozenset(
    (
        *("containerd.service", "crio.service", "docker.service", "dockerd.service", "kubelet.service"),
        *("k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service", "podman.service"),
    )
)


class Names(NamedTuple):
    """What the path of a cgroup names."""

    container: str | None = None
    pod: str | None = None
    unit: str | None = None
    runtime: str | None = None
    unknown: str = ""
    """Why the unit is not known, although the path has one."""


def names_of(path: str, *, hybrid: bool = False) -> Names:
    """The names in a path below the mount, such as ``/system.slice/ssh.service``.

    ``hybrid``: containers may be in trees of cgroup v1 only. Then the service of a container runtime also has the
    sockets of its containers, and names nothing.
    """
    pod = unit = None
    in_pods = by_user = False
    parent = ""
    for part in path.strip("/").split("/"):
        if (match := _JOINED.fullmatch(part)) and not by_user:
            of_pod = _POD.fullmatch(match["slice"])
            pod = of_pod["uid"].replace("_", "-") if of_pod else pod
            return Names(match["id"], pod, unit, _RUNTIMES[match["prefix"]])
        found = _container(part, parent)
        if _UNIT.fullmatch(part):
            unit = part
        if found is not None:
            container, runtime = found
            return Names(container, pod, unit, runtime)
        by_user = by_user or part.startswith("user@")
        in_pods = in_pods or (_PODS.fullmatch(part) is not None and not by_user)
        if in_pods and (match := _POD.fullmatch(part)):
            pod = match["uid"].replace("_", "-")
        parent = part
    if unit == "init.scope":
        return Names(pod=pod, unknown="systemd opened the socket: a service it activates may hold it")
    if hybrid and unit in _SERVICES_OF_RUNTIMES:
        return Names(pod=pod, unknown="containers in trees of cgroup v1 cannot be told from their runtime")
    return Names(pod=pod, unit=unit)


def _container(part: str, parent: str) -> tuple[str, str | None] | None:
    """Id and runtime of the container whose directory this is; None for another directory."""
    if match := _SCOPE.fullmatch(part):
        return match["id"], _RUNTIMES[match["prefix"]]
    for pattern, runtime in _NAMED:
        if match := pattern.fullmatch(part):
            return match["id"], runtime
    return (part, _PARENTS.get(parent)) if _BARE.fullmatch(part) else None
