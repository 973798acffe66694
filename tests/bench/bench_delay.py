"""Time to a name and to the bytes: ``python -m tests.bench.bench_delay`` (root).

The real daemon with default settings on conntrack, in a namespace of its own, with an embedded control plane that
answers at once. Six kinds of connection begin at scattered moments. It prints the seconds from the first packet of each
to a name in ``/api/v1/attribution``, and from the last packet to the bytes in the deployment's series. The peer runs in
the same namespace, with the same traffic: it asks again only at ``positive_ttl``.

With ``--cost SECONDS`` it also prints what each takes while the host is idle, and then while it is busy.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flowmap.cli.output.text import table
from tests.bench.bench_process import cpu_seconds
from tests.support.host import SAMPLES, Daemon, Host, deployment, host, total_of
from tests.support.waiting import until

SERVICE, TCP_PORT, UDP_PORT = "10.77.1.10", 9092, 9093
SENT = 900
LOOK_EVERY = 0.25
BUSY = 20
DEFAULTS = {"positive_ttl": "60s", "negative_ttl": "30s"}
PORTS = {"defaults": 10817, "slow": 10818}
PACES: dict[str, dict[str, object]] = {
    "defaults": {"attribute": DEFAULTS, "collect": {"conntrack": {"resync": "30s"}}},
    "slow": {"attribute": DEFAULTS | {"recheck": "60s"}, "collect": {"conntrack": {"resync": "30s"}}},
}


@dataclass
class Trial:
    """One connection, and when it was seen to be named and counted, by daemon."""

    kind: str
    client: str
    name: str
    protocol: str = "tcp"
    port: int = 0
    began: float = 0.0
    ended: float = 0.0
    sent: int = 0
    before: dict[str, int] = field(default_factory=dict)
    named: dict[str, float] = field(default_factory=dict)
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def service(self) -> int:
        return UDP_PORT if self.protocol == "udp" else TCP_PORT


def _tcp(machine: Host, trial: Trial, stack: ExitStack, *, lasts: float) -> None:
    """Sends once. ``lasts``: seconds until it closes; 0 at once, infinite never."""
    peer = machine.connection(trial.client, SERVICE, TCP_PORT)
    trial.port, trial.began = peer.getsockname()[1], time.monotonic()
    peer.sendall(b"x" * SENT)
    peer.recv(2 * SENT)
    time.sleep(min(lasts, 0.1))
    if lasts < 1:
        peer.close()
    else:
        stack.callback(peer.close)
    trial.sent, trial.ended = SENT, time.monotonic()


def _udp(machine: Host, trial: Trial, stack: ExitStack) -> None:
    with machine.inside.entered():
        peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        peer.bind((trial.client, 0))
        peer.connect((SERVICE, UDP_PORT))
        trial.port, trial.began = peer.getsockname()[1], time.monotonic()
        for _ in range(5):
            peer.send(b"x" * 180)
            time.sleep(0.02)
    trial.sent, trial.ended = SENT, time.monotonic()


KINDS: dict[str, Callable[[Host, Trial, ExitStack], None]] = {
    "new client": lambda machine, trial, stack: _tcp(machine, trial, stack, lasts=60),
    "known client": lambda machine, trial, stack: _tcp(machine, trial, stack, lasts=60),
    "known and over in 0.1 s": lambda machine, trial, stack: _tcp(machine, trial, stack, lasts=0.1),
    "UDP burst": _udp,
    "sends once and idles": lambda machine, trial, stack: _tcp(machine, trial, stack, lasts=60),
    "new and over in 0.1 s": lambda machine, trial, stack: _tcp(machine, trial, stack, lasts=0.1),
}


def look(daemon: Daemon, pace: str, trials: list[Trial]) -> None:
    """Note what is named and counted now."""
    samples = daemon.samples()
    now = time.monotonic()
    for trial in [one for one in trials if one.ended]:
        if pace not in trial.counted and _bytes(samples, trial) - trial.before[pace] >= trial.sent:
            trial.counted[pace] = now - trial.ended
        if pace not in trial.named:
            query = (
                f"/api/v1/attribution?srcIp={trial.client}&srcPort={trial.port}&dstIp={SERVICE}&dstPort={trial.service}"
            )
            answer = daemon.json(f"{query}&protocol={trial.protocol}")
            if answer["state"] == "attributed" or pace in trial.counted:
                trial.named[pace] = time.monotonic() - trial.began


def _bytes(samples: SAMPLES, trial: Trial) -> int:
    return total_of(samples, "flowmap_deployment_transmit_bytes_total", deployment=trial.name)


def _all_known(daemon: Daemon, trials: list[Trial]) -> bool:
    samples = daemon.samples()
    return all(_bytes(samples, trial) for trial in trials)


Cost = tuple[str, str, str, str]


def costs(machine: Host, daemons: Mapping[str, Daemon], trials: list[Trial], seconds: float) -> Iterator[Cost]:
    """CPU and calls of each daemon, for so many seconds without and with new connections."""
    for what, rate in (("idle", 0), (f"{BUSY} connections a second", BUSY)):
        before = {pace: _spent(daemon) for pace, daemon in daemons.items()}
        began = time.monotonic()
        for n in range(max(1, round(rate * seconds))):
            time.sleep(max(0.0, began + (n / rate if rate else seconds) - time.monotonic()))
            if rate:
                machine.exchange(trials[n % len(trials)].client, SERVICE, TCP_PORT, SENT)
        took = time.monotonic() - began
        for pace, daemon in daemons.items():
            cpu, calls = (after - earlier for after, earlier in zip(_spent(daemon), before[pace], strict=True))
            yield what, pace, f"{cpu / took:.1%}", f"{60 * calls / took:.0f}"


def _spent(daemon: Daemon) -> tuple[float, int]:
    return cpu_seconds(daemon.process.pid), total_of(daemon.samples(), "flowmap_api_requests_total")


def run(seconds: float, each: int, seed: int, cost: float) -> tuple[list[Trial], list[Cost]]:
    """Make the traffic of ``each`` trials of every kind within so many seconds, and watch both daemons.

    ``cost``: seconds of each of the measurements after it; 0: none.
    """
    draw = random.Random(seed)
    trials = [Trial(kind, f"10.77.0.{10 + n}", f"d{n}") for n, kind in enumerate([*KINDS] * each)]
    for trial in trials:
        trial.protocol = "udp" if trial.kind == "UDP burst" else "tcp"
    ends = f"{SERVICE}:{TCP_PORT}", f"{SERVICE}:{UDP_PORT}"
    catalog = [deployment(trial.name, trial.client, *ends) for trial in trials]
    addresses = [f"{address}/32" for address in (SERVICE, *(trial.client for trial in trials))]
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        machine = stack.enter_context(host(Path(temporary), addresses, catalog))
        stack.enter_context(machine.service(SERVICE, TCP_PORT))
        with machine.inside.entered():
            sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.bind((SERVICE, UDP_PORT))
        daemons = {}
        for pace, sections in PACES.items():
            (Path(temporary) / pace).mkdir()
            one = Host(machine.inside, machine.sandbox, Path(temporary) / pace)
            listen = {"listen": f"127.0.0.1:{PORTS[pace]}"}
            plane = {"rate": 2, "burst": 5}
            daemons[pace] = stack.enter_context(
                one.daemon(control_plane=plane, http=listen, **sections)  # type: ignore[arg-type]
            )
        for trial in trials:
            if "new" not in trial.kind:
                machine.exchange(trial.client, SERVICE, TCP_PORT, 100)
                time.sleep(1.5)  # at 2 calls a second each is asked about within grace
        known = [trial for trial in trials if "new" not in trial.kind]
        for pace, daemon in daemons.items():
            until(partial(_all_known, daemon, known), f"{pace}: the known clients are known", seconds=200)
            samples = daemon.samples()
            for trial in trials:
                trial.before[pace] = _bytes(samples, trial)
        begin = time.monotonic()
        starts = sorted((draw.uniform(0, seconds), n) for n in range(len(trials)))

        def play() -> None:
            for at, n in starts:
                time.sleep(max(0.0, begin + at - time.monotonic()))
                KINDS[trials[n].kind](machine, trials[n], stack)

        player = threading.Thread(target=play, daemon=True)
        player.start()
        over = begin + seconds + 130
        while time.monotonic() < over and (player.is_alive() or any(len(one.counted) < len(PACES) for one in trials)):
            for pace, daemon in daemons.items():
                look(daemon, pace, trials)
            time.sleep(LOOK_EVERY)
        player.join()
        return trials, list(costs(machine, daemons, trials, cost)) if cost else []


def _figures(values: list[float], wanted: int) -> tuple[str, str]:
    missing = f" ({wanted - len(values)} not yet)" if len(values) < wanted else ""
    if not values:
        return "-", f"-{missing}"
    return f"{statistics.median(values):.1f}", f"{max(values):.1f}{missing}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_delay", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="time in which connections begin; default: 60")
    parser.add_argument("--each", type=int, default=5, help="connections of each kind; default: 5")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cost", type=float, default=0.0, help="measure CPU and calls for so many seconds; default: 0")
    arguments = parser.parse_args()
    trials, spent = run(arguments.seconds, arguments.each, arguments.seed, arguments.cost)
    rows = []
    for kind in [*KINDS, "all"]:
        chosen = [trial for trial in trials if kind in (trial.kind, "all")]
        for pace in PACES:
            named = _figures([trial.named[pace] for trial in chosen if pace in trial.named], len(chosen))
            counted = _figures([trial.counted[pace] for trial in chosen if pace in trial.counted], len(chosen))
            rows.append((kind, pace, *named, *counted))
    print("\n".join(table(("CONNECTION", "PACE", "NAME median s", "worst", "BYTES median s", "worst"), rows)))
    if spent:
        print("\n".join(table(("HOST", "PACE", "CPU of a core", "CALLS a minute"), spent)))


if __name__ == "__main__":
    main()
