"""Many hosts, one call budget: ``python -m tests.bench.bench_fleet [--hosts 1000] [--processes 100]``.

Simulated hosts with real members of a fleet and a real Valkey; the control plane is made up and answers after 0.1 s.
Clients open connections at random. A connection has its name once an answer about its client was asked for after its
start. Every host also wants the answers about the services of its clients once a minute. Beside it, in the same run:
one host with the same budget, clients and connections, which shares with no other.

Printed: calls, the most in any 10 s and what the rate allows, questions that were repeated within their recheck, time
to the name (median and 99 %), the server's share of a core, and CPU and memory of a host.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from flowmap.cli.output.text import table
from flowmap.fleet.control_plane import SharedControlPlane
from flowmap.fleet.server.connection import ServerAddress
from flowmap.model.address import Address, Endpoint
from tests.support.fleet import World, allow_for_company, host, settled
from tests.support.valkey import ValkeyServer, running

RECHECK = 1.0
SERVICES_OF_A_CLIENT = 4
SERVICE_EVERY = 60.0
WARM_UP = 20.0


class Load(NamedTuple):
    """What is simulated."""

    hosts: int
    processes: int
    clients: int
    services: int
    opened: float
    """Connections a second, of all clients together."""
    rate: float
    burst: int
    seconds: float


class Measured(NamedTuple):
    """What came of it."""

    calls: list[tuple[float, str]]
    delays: list[float]
    unnamed: int
    cpu: float
    server_cpu: float
    exchanges: int


def client(number: int) -> Endpoint:
    return Endpoint(Address(0, 0xFFFF_0A00_0000 + number), 0)


def service(number: int) -> Endpoint:
    return Endpoint(Address(0, 0xFFFF_0B00_0000 + number), 9092)


class Host:
    """One host: what waits for answers there, and for how long connections waited for their names."""

    def __init__(self, plane: SharedControlPlane) -> None:
        self.plane = plane
        self.delays: list[float] = []
        self._waiting: Counter[tuple[Endpoint | None, Endpoint | None]] = Counter()

    async def ask(self, source: Endpoint | None, destination: Endpoint | None) -> tuple[float, float]:
        """The instants of an answer. Connections wait for those about clients."""
        self._waiting[source, destination] += 1
        self.plane.set_traffic({("", "ns", *ends): 1000.0 * (ends[0] is not None) for ends in self._waiting})
        answer = await self.plane.find_owners("", "ns", source, destination)
        self._waiting[source, destination] -= 1
        self._waiting += Counter()  # without those that wait no more
        assert answer.instants is not None
        return answer.instants

    async def name(self, number: int, begun: float) -> None:
        """Ask about a client until an answer is from after the connection's start."""
        while True:
            asked, answered = await self.ask(client(number), None)
            if asked >= begun:
                self.delays.append(time.monotonic() - begun)
                return
            await asyncio.sleep(max(0.0, answered + RECHECK - time.monotonic()))

    async def confirm(self, services: list[int], first: float) -> None:
        """Ask about services once a minute."""
        await asyncio.sleep(first)
        while True:
            await asyncio.gather(*(self.ask(None, service(one)) for one in services))
            await asyncio.sleep(SERVICE_EVERY)


async def one_host(plane: SharedControlPlane, load: Load, clients: list[int], seed: int, end: float) -> list[float]:
    """The connections of one host, and the confirmations of its services."""
    chance, running_tasks, one = random.Random(seed), set[asyncio.Task[Any]](), Host(plane)
    services = sorted({chance.randrange(load.services) for _ in clients for _ in range(SERVICES_OF_A_CLIENT)})
    confirming = asyncio.create_task(one.confirm(services, chance.random() * SERVICE_EVERY / 2))
    every = load.clients / load.opened / len(clients)
    while (pause := chance.expovariate(1 / every)) + time.monotonic() < end:
        await asyncio.sleep(pause)
        task = asyncio.create_task(one.name(chance.choice(clients), time.monotonic()))
        running_tasks.add(task)
        task.add_done_callback(running_tasks.discard)
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    one.delays += [float("inf")] * len(running_tasks)
    left = (*running_tasks, confirming)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return one.delays


async def some_hosts(address: ServerAddress, load: Load, hosts: list[int], end: float) -> dict[str, Any]:
    world = World()
    world.took = 0.1
    planes = [
        host(world, address, f"host-{one}", rate=load.rate, burst=load.burst, size=load.hosts, recheck=RECHECK)
        for one in hosts
    ]
    share = load.clients / load.hosts
    mine = [list(range(round(one * share), round((one + 1) * share))) for one in hosts]
    for plane in planes:  # not all at once, as in life
        plane.start()
        await asyncio.sleep(WARM_UP / 2 / len(planes))
    begun = resource.getrusage(resource.RUSAGE_SELF)
    delays = await asyncio.gather(
        *(
            one_host(plane, load, clients, number, end)
            for plane, clients, number in zip(planes, mine, hosts, strict=True)
        )
    )
    await asyncio.gather(*(plane.aclose() for plane in planes))
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "calls": [(at, what) for at, _, what in world.calls],
        "delays": [delay for some in delays for delay in some],
        "cpu": ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime,
    }


def process(address: ServerAddress, load: Load, hosts: list[int], ready: Barrier, result: str) -> None:
    logging.disable()
    allow_for_company()
    import redis.asyncio  # noqa: F401

    ready.wait()
    end = time.monotonic() + WARM_UP + load.seconds
    Path(result).write_text(json.dumps(asyncio.run(some_hosts(address, load, hosts, end))))


def used(server: ValkeyServer) -> tuple[float, int]:
    """Seconds of CPU of the server, and exchanges."""
    cpu, stats = server.command("INFO", "cpu"), server.command("INFO", "commandstats")
    calls = stats.get("cmdstat_evalsha", {}).get("calls", 0)
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]), int(calls)


def measure(load: Load, directory: Path) -> Measured:
    with running(directory) as server:
        parts = [list(range(load.hosts))[number :: load.processes] for number in range(load.processes)]
        results = [str(directory / f"{number}.json") for number in range(load.processes)]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.bench.bench_fleet"])
        ready = context.Barrier(load.processes + 1)
        children = [
            context.Process(target=process, args=(server.address, load, hosts, ready, result))
            for hosts, result in zip(parts, results, strict=True)
        ]
        for child in children:
            child.start()
        settled(server, tokens=0)
        ready.wait()
        end = time.monotonic() + WARM_UP + load.seconds
        time.sleep(max(0.0, end - load.seconds - time.monotonic()))
        before = used(server)
        time.sleep(max(0.0, end - 1 - time.monotonic()))
        after = used(server)
        for child in children:
            child.join()
    found = [json.loads(Path(result).read_text()) for result in results]
    delays = [delay for one in found for delay in one["delays"]]
    return Measured(
        sorted((at, what) for one in found for at, what in one["calls"]),
        [delay for delay in delays if delay != float("inf")],
        sum(delay == float("inf") for delay in delays),
        sum(one["cpu"] for one in found) / (load.seconds + WARM_UP),
        (after[0] - before[0]) / (load.seconds - 1),
        round((after[1] - before[1]) / (load.seconds - 1)),
    )


def busiest(calls: list[tuple[float, str]], window: float) -> int:
    """Most calls in any window."""
    times, first, most = [at for at, _ in calls], 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


def repeated(calls: list[tuple[float, str]]) -> int:
    """Calls within the recheck of the one before."""
    by_question = defaultdict(list)
    for at, what in calls:
        by_question[what].append(at)
    gaps = (later - earlier for times in by_question.values() for earlier, later in zip(times, times[1:], strict=False))
    return sum(gap < RECHECK for gap in gaps)


def row(what: str, load: Load, measured: Measured) -> tuple[str, ...]:
    delays = sorted(measured.delays)
    return (
        what,
        str(len(measured.calls)),
        f"{busiest(measured.calls, 10)} of {10 * load.rate + load.burst:.0f}",
        str(repeated(measured.calls)),
        f"{len(delays)} + {measured.unnamed}",
        f"{statistics.median(delays):.2f} s",
        f"{delays[int(0.99 * len(delays))]:.2f} s",
        f"{100 * measured.server_cpu:.1f} %",
        str(measured.exchanges),
        f"{100 * measured.cpu / load.hosts:.2f} %",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_fleet", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--opened", type=float, default=10.0, help="connections a second; default: 10")
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second; default: 20")
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    load = Load(
        arguments.hosts,
        arguments.processes,
        arguments.clients,
        arguments.services,
        arguments.opened,
        arguments.rate,
        int(arguments.rate),
        arguments.seconds,
    )
    head = (
        *("WHAT", "CALLS", "MOST IN 10 s", "REPEATED", "NAMED + WAITING", "MEDIAN", "99 %"),
        *("SERVER", "EXCHANGES/s", "CPU A HOST"),
    )
    rows = []
    for what, one in (
        (f"{load.hosts} hosts in {load.processes} processes", load),
        ("one host, the same traffic", load._replace(hosts=1, processes=1)),
    ):
        with tempfile.TemporaryDirectory() as directory:
            rows.append(row(what, one, measure(one, Path(directory))))
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
