"""``flowmap who`` of 1,000 endpoints, as a whole process, beside one request for each of them.

    python -m tests.bench.bench_who [--flows 100000]

The daemon has ``--flows`` open connections of 50 clients and answers from its table; a control plane owns half of the
clients. The peer asks ``/api/v1/attribution`` for the same endpoints, one by one over one kept connection.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

from flowmap.config import Config
from flowmap.daemon.wiring import build
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.host import deployment
from tests.support.records import Record, batch_of
from tests.support.sandbox import running_sandbox
from tests.support.scripted_source import ScriptedSource

CLIENTS, ENDPOINTS, ROUNDS = 50, 1000, 5
SERVER, PORT = "10.1.0.1", 9092


def client_of(number: int) -> tuple[str, int]:
    """Address and port of one client."""
    return f"10.0.0.{number % CLIENTS + 1}", 2000 + number // CLIENTS


def catalog() -> dict[str, object]:
    end = f"{SERVER}:{PORT}"
    deployments = [deployment(f"job-{number}", f"10.0.0.{number}", end) for number in range(1, CLIENTS // 2 + 1)]
    return {"workspace": "ws", "deployments": deployments}


@asynccontextmanager
async def daemon(flows: int, control_plane: str) -> AsyncIterator[str]:
    """A daemon that has decided ``flows`` connections; its URL."""
    credentials = {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"}
    plane = {"endpoint": control_plane, "workspace": "ws", "credentials": credentials, "rate": 100, "burst": 200}
    config = Config.model_validate({"control_plane": plane, "http": {"listen": "127.0.0.1:0"}})
    source = ScriptedSource()
    pipeline = build(config, source=source)
    source.open()
    await pipeline.server.start()
    pipeline.engine.start()
    try:
        source.hand(ReadStarted("start"), ReadFinished(True))
        for start in range(0, flows, 10_000):
            ends = [client_of(number) for number in range(start, start + 10_000)]
            records = [
                Record(RecordKind.OPENED, ip, port, SERVER, PORT, counters=(1, 1, 1, 1), flags=int(Flag.PRESENT))
                for ip, port in ends
            ]
            source.hand(batch_of(*records))
        while pipeline.engine.snapshot.pending_flows or pipeline.engine.snapshot.open_flows < flows:
            source.hand(CaughtUp(time.monotonic()))
            await asyncio.sleep(0.2)
        yield pipeline.server.url
    finally:
        pipeline.engine.stop()
        pipeline.engine.join(5)
        await pipeline.resolver.aclose()
        await pipeline.control.plane.aclose()
        await pipeline.server.stop()
        source.free()


def who(url: str, text: str) -> float:
    """Seconds of one run of the command; every line must have an owner or none."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flowmap", "who", "--url", url], input=text, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    told = done.stdout.splitlines()
    named = sum("=> job-" in line for line in told)
    assert named == len(told) / 2, told[:5]
    return seconds


def one_by_one(url: str, ends: list[tuple[str, int]]) -> float:
    """Seconds of one request for each endpoint."""
    started = time.perf_counter()
    with httpx.Client(trust_env=False) as client:
        for ip, port in ends:
            asked: dict[str, str | int] = {"srcIp": ip, "srcPort": port, "dstIp": SERVER, "dstPort": PORT}
            client.get(f"{url}/api/v1/attribution", params=asked).raise_for_status()
    return time.perf_counter() - started


class Measured(NamedTuple):
    """Seconds; CPU is that of the daemon and the command, or of the daemon and the peer."""

    ours: list[float]
    our_cpu: float
    theirs: float
    their_cpu: float


async def measure(flows: int, control_plane: str, text: str, ends: list[tuple[str, int]]) -> Measured:
    """The runs of the command, with the mean CPU of one, and the peer."""
    async with daemon(flows, control_plane) as url:
        started = cpu()
        ours = [await asyncio.to_thread(who, url, text) for _ in range(ROUNDS)]
        between = cpu()
        theirs = await asyncio.to_thread(one_by_one, url, ends)
        return Measured(ours, (between - started) / ROUNDS, theirs, cpu() - between)


def cpu() -> float:
    """Seconds of CPU of this process and of its children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=100_000)
    flows = parser.parse_args().flows
    # Coprime with the number of flows, and so of clients: all of these are asked about, and no connection twice.
    step = next(step for step in itertools.count(flows // ENDPOINTS + 1) if math.gcd(step, flows) == 1)
    ends = [client_of(number * step % flows) for number in range(ENDPOINTS)]
    text = "\n".join(f"{n}\tflink\t{ip}:{port}\tSleep" for n, (ip, port) in enumerate(ends))
    with running_sandbox(catalog()) as sandbox:
        found = asyncio.run(measure(flows, sandbox.url, text, ends))
    median = statistics.median(found.ours)
    print(f"{flows:,} open connections, {ENDPOINTS:,} endpoints")
    print(f"  flowmap who: median {median:.2f} s, worst {max(found.ours):.2f} s, CPU {found.our_cpu:.2f} s")
    print(f"  one request each: {found.theirs:.2f} s, CPU {found.their_cpu:.2f} s")
    print(f"  ratio {median / found.theirs:.2f}, of CPU {found.our_cpu / found.their_cpu:.2f}")


if __name__ == "__main__":
    main()
