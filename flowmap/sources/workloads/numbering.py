"""Numbers workloads, and names them when they are new or better known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.model.namespace import HOST
from flowmap.model.workload import CONFLICT, Workload
from flowmap.sources.workloads.names import ContainerNames
from flowmap.sources.workloads.paths import names_of
from flowmap.sources.workloads.processes import Process
from flowmap.sources.workloads.selection import Selection
from flowmap.system.cgroups import ROOT_ID, Cgroup, CgroupPaths, find_mount

LIMIT = 65_536
"""Numbers that are kept; those unused for longest are dropped, and are numbered again."""

NAMELESS = 1024
"""Containers of pods whose names are still looked for."""

Numbers = npt.NDArray[np.uint32]

NOT_REPORTED = "the kernel did not report the cgroup: the connection was too short, or Linux is older than 5.8"
GONE = "the cgroup was removed before it was read, or is outside the visible cgroup tree"
UNREAD = "the cgroup is not read yet"
PASSED_ON = "the socket was made in the cgroup {}, and a process in {} holds it"
IN_ROOT = "the socket is in the root of the cgroup v2 tree"


class _Key(NamedTuple):
    cgroup: int
    process: Process = Process()
    namespace: str = HOST


class Numbering:
    """The numbers of workloads; those in different network namespaces are different."""

    def __init__(self, paths: CgroupPaths | None = None, names: ContainerNames | None = None) -> None:
        self._paths = CgroupPaths(find_mount()) if paths is None else paths
        self._container_names = ContainerNames() if names is None else names
        self._nameless: dict[int, Workload] = {}  # containers of pods without a name so far
        self._numbers: dict[_Key, int] = {}
        self._last = CONFLICT
        self._unnamed: dict[int, _Key] = {}
        self._named: dict[int, Workload] = {}
        self._selection = Selection()
        self._left_out: set[int] = set()
        self._dropped = self._given_up = 0

    def of_cgroups(self, ids: npt.NDArray[np.uint64], namespace: str = HOST) -> Numbers:
        """The number of the workload of each cgroup, whose sockets are in a network namespace."""
        if not len(ids):
            return np.zeros(0, np.uint32)
        different, position = np.unique(ids, return_inverse=True)
        numbers = np.array([self._number(_Key(one, namespace=namespace)) for one in different.tolist()], np.uint32)
        self._name()
        found: Numbers = numbers[position.reshape(-1)]
        return found

    def of_process(self, cgroup: int, process: Process, namespace: str = HOST) -> int:
        """The number of the workload of a process, or of sockets whose process is not known, in a cgroup."""
        return self._number(_Key(cgroup, process, namespace))

    def select(self, selection: Selection) -> None:
        """Choose the cgroups that count."""
        self._selection = selection
        numbers = self._numbers.items()
        self._left_out = {number for key, number in numbers if selection.leaves_out(self._paths.path(key.cgroup))}

    def leave_out(self, client: Numbers, server: Numbers) -> npt.NDArray[np.bool_]:
        """Which flows do not count: all their endpoints on this host are in cgroups that are left out."""
        if not self._left_out:
            return np.zeros(len(client), np.bool_)
        numbers = np.array(sorted(self._left_out), np.uint32)
        outside = ((ends == 0) | np.isin(ends, numbers) for ends in (client, server))
        found: npt.NDArray[np.bool_] = ((client | server) != 0) & np.logical_and(*outside)
        return found

    def unread(self) -> set[int]:
        """The cgroups whose path is not read yet."""
        return {key.cgroup for key in self._unnamed.values()}

    def cgroup(self, one: int) -> Cgroup | None:
        """A cgroup with its directory; None if that is not known."""
        return self._paths.cgroup(one)

    def dropped(self) -> dict[str, int]:
        """What was dropped at limits, by table: paths of cgroups, workloads, names of Kubernetes containers."""
        return {
            "cgroups": self._paths.dropped,
            "workloads": self._dropped,
            "container_names": self._given_up + self._container_names.dropped,
        }

    def take_named(self) -> tuple[tuple[int, Workload], ...]:
        """Workloads that are new, or better known than before."""
        self._name()
        self._name_containers()
        named, self._named = tuple(self._named.items()), {}
        return named

    def _number(self, key: _Key) -> int:
        number = self._numbers.pop(key, None)
        if number is None:
            self._last = number = self._last + 1
            self._unnamed[number] = key
            self._named[number] = _workload(key, None, UNREAD if key.cgroup else NOT_REPORTED)
            if len(self._numbers) >= LIMIT:
                dropped = self._numbers.pop(next(iter(self._numbers)))
                self._unnamed.pop(dropped, None)
                self._left_out.discard(dropped)
                self._dropped += 1
        self._numbers[key] = number  # inserted last: the order is by use
        return number

    def _name(self) -> None:
        ids = {key.cgroup for key in self._unnamed.values() if key.cgroup}
        paths = self._paths.find(ids) if ids else {}
        if paths is None:
            return
        for number, key in self._unnamed.items():
            if key.cgroup:
                self._named[number] = workload = self._workload(key, paths[key.cgroup])
                if workload.pod is not None and workload.container is not None:
                    self._nameless[number] = workload
                if self._selection.leaves_out(paths[key.cgroup]):
                    self._left_out.add(number)
        self._unnamed.clear()

    def _name_containers(self) -> None:
        """Name the containers of pods. kubelet may name one a while after its first socket."""
        if not self._nameless:
            return
        self._container_names.refresh()
        for number, workload in list(self._nameless.items()):
            if (found := self._container_names.get(workload.container or "")) is not None:
                self._named[number] = workload._replace(container_name=found.name, pod_name=found.pod)
                del self._nameless[number]
        for number in list(self._nameless)[: max(0, len(self._nameless) - NAMELESS)]:
            del self._nameless[number]
            self._given_up += 1

    def _workload(self, key: _Key, path: str | None) -> Workload:
        mount = self._paths.mount
        if path is None:
            return _workload(key, None, mount.cause or GONE)
        names = names_of(path, hybrid=mount.hybrid)
        other = names_of(key.process.cgroup or path, hybrid=mount.hybrid)
        if (other.container, other.unit) != (names.container, names.unit):
            return _workload(key, None, PASSED_ON.format(path, key.process.cgroup))
        unknown = IN_ROOT if key.cgroup == ROOT_ID else names.unknown
        known = _workload(key, path, unknown)
        return known._replace(container=names.container, pod=names.pod, unit=names.unit, runtime=names.runtime)


def _workload(key: _Key, path: str | None, unknown: str) -> Workload:
    process = key.process
    said = "; ".join(part for part in (unknown, process.unknown) if part)
    began = process.began if key.cgroup and not process.cgroup else 0  # else the socket was passed on
    known = Workload(path, pid=process.pid, command=process.command, unknown=said)
    return known._replace(cgroup_id=key.cgroup, namespace=key.namespace, process_began=began)
