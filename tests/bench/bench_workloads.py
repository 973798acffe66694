"""Full reads of 10,000 sockets in 100 cgroups with their containers and units, beside reads without them.

As root: python -m tests.bench.bench_workloads [sockets]
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import sys
import time

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


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with namespace() as inside, inside.entered(), cgroup_tree() as tree:
        held = sockets(tree, number)
        made = {"with": SocketsSource(interval=3600.0), "without": Plain(interval=3600.0)}
        first, later = {}, {name: [0.0] * 0 for name in made}
        named = 0
        for name, source in made.items():
            source.open()
            began = time.process_time()
            steps = list(source.poll())
            first[name] = (time.process_time() - began) * 1e3
            named += sum(len(step.workloads) for step in steps if isinstance(step, WorkloadsNamed))
        for _ in range(ROUNDS):  # in turns, so that both meet the same neighbours
            for name, source in made.items():
                began = time.process_time()
                for _ in source.finish():
                    pass
                later[name].append((time.process_time() - began) * 1e3)
        print(f"{len(held)} sockets in {CGROUPS} cgroups, {named} workloads named; CPU, median (least) of {ROUNDS}")
        for what, ours, peer in (
            ("first read", first["with"], first["without"]),
            ("later reads", statistics.median(later["with"]), statistics.median(later["without"])),
            ("least of them", min(later["with"]), min(later["without"])),
        ):
            print(f"{what:<14} with {ours:7.1f} ms   without {peer:7.1f} ms   ratio {ours / peer:.2f}")
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
