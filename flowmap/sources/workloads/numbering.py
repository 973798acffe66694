"""Numbers workloads, and names them when they are new or better known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.model.workload import CONFLICT, Workload
from flowmap.sources.workloads.cgroups import ROOT_ID, CgroupPaths, find_mount
from flowmap.sources.workloads.paths import names_of

LIMIT = 65_536
"""Numbers that are kept; those unused for longest are dropped, and are numbered again."""

Numbers = npt.NDArray[np.uint32]

NOT_REPORTED = "the kernel did not report the cgroup: the connection was too short, or Linux is older than 5.8"
GONE = "the cgroup was removed before it was read, or is outside the visible cgroup tree"
IN_ROOT = "the socket is in the root of the cgroup v2 tree"


class _Key(NamedTuple):
    cgroup: int


class Numbering:
    """The numbers of workloads of one network namespace."""

    def __init__(self, paths: CgroupPaths | None = None) -> None:
        self._paths = CgroupPaths(find_mount()) if paths is None else paths
        self._numbers: dict[_Key, int] = {}
        self._last = CONFLICT
        self._unnamed: dict[int, int] = {}  # cgroup by number
        self._named: dict[int, Workload] = {}

    def of_cgroups(self, ids: npt.NDArray[np.uint64]) -> Numbers:
        """The number of the workload of each cgroup."""
        if not len(ids):
            return np.zeros(0, np.uint32)
        different, position = np.unique(ids, return_inverse=True)
        numbers = np.array([self._number(_Key(one)) for one in different.tolist()], np.uint32)
        found: Numbers = numbers[position.reshape(-1)]
        return found

    def take_named(self) -> tuple[tuple[int, Workload], ...]:
        """Workloads that are new, or better known than before."""
        self._name()
        named, self._named = tuple(self._named.items()), {}
        return named

    def _number(self, key: _Key) -> int:
        number = self._numbers.pop(key, None)
        if number is None:
            self._last = number = self._last + 1
            self._unnamed[number] = key.cgroup
            self._named[number] = _unread(key.cgroup)
            if len(self._numbers) >= LIMIT:
                self._unnamed.pop(self._numbers.pop(next(iter(self._numbers))), None)
        self._numbers[key] = number  # inserted last: the order is by use
        return number

    def _name(self) -> None:
        ids = {one for one in self._unnamed.values() if one}
        paths = self._paths.find(ids) if ids else {}
        if paths is None:
            return
        for number, one in self._unnamed.items():
            if one:
                self._named[number] = self._workload(one, paths[one])
        self._unnamed.clear()

    def _workload(self, cgroup: int, path: str | None) -> Workload:
        if path is None:
            return Workload(cgroup_id=cgroup, unknown=self._paths.mount.cause or GONE)
        names = names_of(path, hybrid=self._paths.mount.hybrid)
        unknown = IN_ROOT if cgroup == ROOT_ID else names.unknown
        return Workload(path, names.container, names.pod, names.unit, names.runtime, None, None, unknown, cgroup)


def _unread(cgroup: int) -> Workload:
    return Workload(cgroup_id=cgroup, unknown="the cgroup is not read yet" if cgroup else NOT_REPORTED)
