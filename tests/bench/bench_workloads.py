"""Full reads of 10,000 sockets in 100 cgroups with their containers, units and processes, beside reads without them.

As root: python -m tests.bench.bench_workloads [sockets]
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable

from flowmap.sources.base import WorkloadsNamed
from flowmap.sources.sockets.source import SocketsSource
from flowmap.sources.sockets.tracker import Facts
from flowmap.sources.workloads.processes import ProcessSearch
from flowmap.system.cgroups import Cgroup
from flowmap.wire.netlink.inet_diag_columns import Rows
from tests.support.cgroups import CgroupTree, cgroup_tree
from tests.support.netns import namespace

CGROUPS = 100
ROUNDS = 25


class Plain(SocketsSource):
    """The peer: the same source, without workloads."""

    def _note_workloads(self, rows: Rows, facts: Facts) -> None:
        pass


MADE: dict[str, Callable[[], SocketsSource]] = {
    "without": lambda: Plain(interval=3600.0),
    "containers and units": lambda: SocketsSource(interval=3600.0),
    "processes too": lambda: SocketsSource(interval=3600.0, processes=ProcessSearch()),
}


def sockets(tree: CgroupTree, number: int) -> list[socket.socket]:
    """``number`` sockets of connections on loopback, spread over cgroups."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, number + 200), hard))
    home = tree.root.parent / "cgroup.procs"
    held: list[socket.socket] = []
    for group in range(CGROUPS):
        (tree.make(f"system.slice/docker-{group:064x}.scope") / "cgroup.procs").write_text(str(os.getpid()))
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            for _ in range(number // CGROUPS // 2):
                held += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    home.write_text(str(os.getpid()))
    return held


def first_read(make: Callable[[], SocketsSource]) -> tuple[float, int]:
    """CPU in ms of the first read of a new process, which has read nothing before, and the workloads it named."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        source = make()
        source.open()
        began = time.process_time()
        steps = list(source.poll())
        used = (time.process_time() - began) * 1e3
        named = sum(len(step.workloads) for step in steps if isinstance(step, WorkloadsNamed))
        os.write(writing, f"{used} {named}".encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        parts = answer.read().split()
    os.wait()
    return float(parts[0]), int(parts[1])


def later_read(source: SocketsSource) -> float:
    """CPU in ms of a read."""
    began = time.process_time()
    for _ in source.finish():
        pass
    return (time.process_time() - began) * 1e3


def show(what: str, times: dict[str, list[float]]) -> None:
    """Median (least) of each, and the ratios to the peer."""
    peer = times["without"]
    for name, ours in times.items():
        ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
        line = f"{what:<12} {name:<22} {statistics.median(ours):6.1f} ms ({min(ours):6.1f})"
        print(f"{line}   ratio {ratio:.2f} ({min(ours) / min(peer):.2f})")


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with namespace() as inside, inside.entered(), cgroup_tree() as tree:
        held = sockets(tree, number)
        # In turns, so that all meet the same neighbours.
        first = [{name: first_read(make) for name, make in MADE.items()} for _ in range(ROUNDS)]
        named = first[0]["containers and units"][1]
        print(f"{len(held)} sockets in {CGROUPS} cgroups, {named} workloads named; CPU, median (least) of {ROUNDS}")
        show("first read", {name: [one[name][0] for one in first] for name in MADE})
        made = {name: make() for name, make in MADE.items()}
        for source in made.values():
            source.open()
            list(source.poll())
        later = [{name: later_read(source) for name, source in made.items()} for _ in range(ROUNDS)]
        show("later reads", {name: [one[name] for one in later] for name in MADE})
        processes(held)


def processes(held: list[socket.socket]) -> None:
    """CPU and time of a search for the process of every socket."""
    search = ProcessSearch()
    inodes: dict[int, Cgroup | None] = {os.fstat(one.fileno()).st_ino: None for one in held}
    began, cpu = time.perf_counter(), time.process_time()
    search.want(inodes)
    while search.deadline() < float("inf"):
        time.sleep(max(0.0, search.deadline() - time.monotonic()))
        search.step()
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    found = sum(process.pid is not None for process in search.take_found().values())
    print(f"processes: {found} of {len(inodes)} found in {wall:.1f} s, {used * 1e3:.0f} ms CPU, {used / wall:.1%}")


if __name__ == "__main__":
    main()
