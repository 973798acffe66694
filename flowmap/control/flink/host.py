"""The TaskManagers on this host, and the cgroups in which they make their sockets.

A TaskManager listens on the RPC and the data port that the JobManager lists, so its listening sockets tell its cgroup.
The kernel names the cgroup of every socket, without privileges. A connection from a TaskManager's address whose socket
is in another cgroup is another program's, and one in a cgroup that holds nothing but the TaskManager is its own.

    both listeners are in one cgroup              the TaskManager makes its sockets there
    its processes are one tree                    the cgroup is its own; minimal inits of containers do not count
    they are several trees, or cannot be read     mixed: a socket there may be another program's
    another TaskManager listens in the same one   mixed
    the tree of cgroups cannot be seen, or is of version 1: nothing is known
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from flowmap.control.flink.records import ListedTaskManager
from flowmap.errors import FlowmapError
from flowmap.model.address import Address, Endpoint
from flowmap.model.tenure import LocalProcess

log = logging.getLogger(__name__)

ROOT = 1
"""Id of the root cgroup, which every socket has where cgroups are of version 1."""
PROCESSES = 4096
"""TaskManagers that are remembered, those not seen for longest dropped first."""


class Listener(NamedTuple):
    """A listening TCP socket of this host."""

    endpoint: Endpoint
    """The address is unspecified where it listens on every address."""
    cgroup: int
    """Id of its cgroup; 0: the kernel does not tell."""


class Host(Protocol):
    """This host."""

    def listeners(self) -> Iterable[Listener]:
        """The listening sockets of the network namespace. FlowmapError if they cannot be read."""

    def process_trees(self, cgroups: Collection[int]) -> Mapping[int, int]:
        """The number of process trees in each cgroup, without those whose processes cannot be read."""


class UnusedHost:
    """A host whose facts are not used."""

    def listeners(self) -> Iterable[Listener]:
        return ()

    def process_trees(self, cgroups: Collection[int]) -> Mapping[int, int]:
        return {}


UNUSED = UnusedHost()


class HostFacts:
    """What this host knows about the TaskManagers of one cluster. Used in one event loop."""

    def __init__(self, cluster: str, host: Host, own_addresses: frozenset[Address]) -> None:
        self._cluster = cluster
        self._host = host
        self._own_addresses = own_addresses
        self._known: dict[str, LocalProcess] = {}
        self._checked: dict[int, float] = {}
        """By cgroup: when it last held nothing but one TaskManager."""
        self._failed = False

    def of(self, processes: Collection[str]) -> tuple[LocalProcess, ...]:
        """What is known about these TaskManagers."""
        return tuple(one for name in sorted(processes) if (one := self._known.get(name)) is not None)

    def read(self, listed: Sequence[tuple[str, ListedTaskManager, tuple[Address, ...]]], now: float) -> None:
        """Look for the listed TaskManagers, given with their process and addresses, at monotonic second ``now``."""
        here = [one for one in listed if not self._own_addresses.isdisjoint(one[2])]
        if not here:
            return
        try:
            listening = {one.endpoint: one.cgroup for one in self._host.listeners()}
        except FlowmapError as error:
            if not self._failed:
                log.warning("cluster %s: TaskManagers of this host are not told apart: %s", self._cluster, error)
            self._failed = True
            return
        self._failed = False
        found = {name: cgroup for name, one, addresses in here if (cgroup := _cgroup(listening, one, addresses))}
        count = Counter(found.values())
        trees = self._host.process_trees(count)
        for name, cgroup in found.items():
            self._note(name, cgroup, now, alone=count[cgroup] == 1 and trees.get(cgroup) == 1)
        for cgroup in count:
            self._checked[cgroup] = now
        self._checked = {cgroup: at for cgroup, at in self._checked.items() if cgroup in count}

    def _note(self, name: str, cgroup: int, now: float, *, alone: bool) -> None:
        known = self._known.pop(name, None)
        one = known if known is not None and known.cgroup == cgroup else LocalProcess(name, cgroup)
        if not alone:
            before = self._checked.get(cgroup, -math.inf)
            one = one._replace(mixed_from=min(one.mixed_from, before), mixed_until=math.inf)
        elif one.mixed_until == math.inf:
            one = one._replace(mixed_until=now)
        self._known[name] = one
        while len(self._known) > PROCESSES:
            del self._known[next(iter(self._known))]


def _cgroup(listening: Mapping[Endpoint, int], one: ListedTaskManager, addresses: Iterable[Address]) -> int:
    """The cgroup of both listeners of a TaskManager; 0 if that is not known."""
    for address in addresses:
        anywhere = (address, *(Address.parse(text) for text in ("0.0.0.0", "::")))
        ids = [
            {listening[at] for host in anywhere if (at := Endpoint(host, port)) in listening}
            for port in (one.rpc.port, one.data_port)
        ]
        if ids[0] == ids[1] and len(ids[0]) == 1:
            (cgroup,) = ids[0]
            return cgroup if cgroup > ROOT else 0
    return 0
