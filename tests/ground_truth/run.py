"""One run: the stage, the control plane, the daemon, the traffic, and the report on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.ground_truth.fleet import Companions, sharing
from tests.ground_truth.modes import MODES
from tests.ground_truth.observer import WAYS, Observer, Use
from tests.ground_truth.plan import Plan
from tests.ground_truth.stage import STORM_NET, Stage, stage
from tests.ground_truth.traffic import Director, running_in, serving
from tests.ground_truth.truth import Knowable, Record, Timing
from tests.ground_truth.verdict import Bytes, Calls, Peer, Verdict, judge, udp_bytes
from tests.ground_truth.world import World
from tests.support.host import SAMPLES, WORKSPACE, Daemon, total_of
from tests.support.sandbox import running_sandbox
from tests.support.waiting import until

LOOK_EVERY = 0.4
"""Seconds between two looks at the daemons; a thousandth of a long run."""
RATE, BURST, FEW = 60, 30, 0.7
"""Calls a second that the daemon may make, how many at once, and calls a second in the mode with few."""
UDP_HEADERS = {"ip": 28, "ip6": 48}
"""Bytes of a datagram besides its payload."""
PUSHED = 100
"""Bytes that a server may send unasked on a connection."""
MAX_FLOWS = 20_000
"""Room for flows: small, so that all of it is in use soon, and memory that grows on is a leak."""
LONGEST_READ = 60.0
"""Seconds in which a full read ends also on a busy machine."""
EXPLAINED = 50
"""Odd flows about which the daemon is asked in the end."""
UDP_LINGERS = 5
"""Seconds the router keeps UDP entries where owners use the tuples of others: longer than an address is unowned."""
MORE = 12.0, 12.0
"""MiB of memory and open descriptors that a daemon may use more in the second half of a run than in the first."""
SMALL_BUFFER = "256KiB"
"""Receive buffer in which a storm does not fit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    plan: Plan
    record: Record
    verdict: Verdict
    bytes: Bytes
    calls: Calls
    overruns: int
    flow_calls: float
    """Calls for 1,000 flows."""
    named_within: tuple[float, float]
    """Seconds from first sight to the name: bounds of the buckets of the median and of 99 %."""
    evidence: Mapping[int, Any]
    """What the daemon says of flows with a wrong name and of those it missed, by their number."""
    used: Sequence[tuple[Use, Use]]
    """Memory in MiB and open descriptors of each daemon."""
    by_process: tuple[int, int]
    """Connections named by their process, and questions about clients that it saved."""
    counted_once: tuple[int, int] | None
    """Of a fleet, the bytes of all connections, each as one of its daemons counted it; here in turns."""

    def failures(self, *, share: float) -> list[str]:
        """What must not be; ``share``: percent of the attributable flows that must be attributed."""
        found = [f"misattributed: {wrong.what}" for wrong in self.verdict.wrong]
        mode = MODES[self.plan.mode]
        found += self.bytes.faults(losses_allowed=mode.trouble == "overrun" or mode.source == "sockets")
        if self.verdict.share < share:
            found.append(f"only {self.verdict.share:.2f} % of the attributable flows are attributed")
        if self.calls.asked + self.calls.ties + self.calls.faulty > self.calls.allowed:
            found.append(f"{self.calls.asked} calls, {self.calls.allowed:.0f} allowed")
        if self.counted_once not in (None, self.bytes.witnessed):
            found.append(f"the fleet counted {self.counted_once}, {self.bytes.witnessed} were forwarded")
        found += [f"a daemon leaks: {use}" for both in self.used for use, most in zip(both, MORE, strict=True)
                  if use.most > use.half + most]  # fmt: skip
        if mode.trouble == "overrun" and not self.overruns:
            found.append("no storm overran the buffer")
        return found


def carry_out(plan: Plan, timing: Timing, *, directory: Path | None = None, world: type[World] = World) -> Outcome:
    """Do it. ``directory`` keeps the daemon's configuration and log."""
    if MODES[plan.mode].scene == "udp":
        timing = replace(timing, lingers=max(timing.lingers, UDP_LINGERS))
    with tempfile.TemporaryDirectory() as temporary, stage(plan, lingers=timing.lingers) as made:
        return _on_stage(plan, timing, made, directory or Path(temporary), world)


def _on_stage(plan: Plan, timing: Timing, made: Stage, directory: Path, world: type[World]) -> Outcome:
    with made.host.entered(), running_sandbox({"workspace": WORKSPACE}) as plane:
        director = Director(plan, made, world(plan, plane))
        prepared, go = threading.Event(), threading.Event()

        async def clients() -> None:
            await director.before()
            prepared.set()
            await asyncio.to_thread(go.wait)
            await director.play()

        with serving(plan, made), running_in(made, "clients", clients()) as actors:
            until(prepared.is_set, "the older connections are open")
            made.witness()
            config, fleet = _config(plan, timing, plane.url, directory), contextlib.ExitStack()
            companions = Companions([])
            with fleet:
                if MODES[plan.mode].fleet:
                    config, companions = fleet.enter_context(sharing(made.host, config, directory))
                daemon = Daemon(made.host, config, directory)
                try:
                    until(lambda: daemon.ready() and companions.ready(), "the daemons are ready")
                    go.set()
                    observers = [Observer(daemon), *companions.observers]
                    _watch(observers, actors, max(LOOK_EVERY, plan.duration / 1000))
                    _wait_for_last_answers(observers, timing)
                    made.silence()
                    _wait_for_last_bytes(observers, timing)
                    for observer in observers:
                        observer.look_back(min(one.began for one in director.record.connections) - 1.0)
                    outcome = _report(plan, director.record, observers, made, timing, plane.requests)
                    assert daemon.stop() == 0, "the daemon did not end as it should"
                    return outcome
                finally:
                    go.set()
                    if daemon.process.poll() is None:
                        daemon.process.kill()
                        daemon.process.wait()


def _config(plan: Plan, timing: Timing, url: str, directory: Path) -> Mapping[str, Any]:
    mode = MODES[plan.mode]
    small = mode.trouble == "overrun"
    return {
        "control_plane": {
            "endpoint": url,
            "workspace": WORKSPACE,
            "credentials": {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"},
            "rate": _rate(plan),
            "burst": BURST,
            "max_in_flight": 16,
            # A busy machine makes calls slow: only where they fail on purpose may that count as a failure.
            "timeout": "3s" if mode.trouble == "api" else "10s",
            "catalog": {"refresh": "10s"},
        },
        "collect": {
            "source": mode.source,
            "max_flows": MAX_FLOWS,
            "exclude": ["127.0.0.0/8", STORM_NET],
            "sockets": {
                "interval": f"{timing.resync:g}s",
                **({"processes": "all"} if mode.processes else {}),
            },
            "conntrack": {"resync": f"{timing.resync:g}s", **({"receive_buffer": SMALL_BUFFER} if small else {})},
        },
        "attribute": {
            "positive_ttl": f"{timing.ttl:g}s",
            "negative_ttl": f"{timing.ttl:g}s",
            "grace": f"{plan.grace:g}s",
            **mode.attribute,
        },
        "export": {"max_series": 10_000, "idle_after": "24h"},  # so that no counter may fall
        "history": {"path": str(directory / f"history-{os.getpid()}.sqlite")},
        "http": {"listen": "127.0.0.1:10817"},
    }


def _watch(observers: Sequence[Observer], actors: threading.Thread, every: float) -> None:
    while actors.is_alive():
        began = time.monotonic()
        for observer in observers:
            observer.look()
        # Looks share an interpreter with the control plane and the clients: they must not take the most of it.
        actors.join(max(every, 2 * (time.monotonic() - began)))


def _wait_for_last_answers(observers: Sequence[Observer], timing: Timing) -> None:
    """Until every entry of the kernel has had time to end, and no flow waits that an answer can still help."""

    def waiting() -> int:
        return sum(observer.pending for observer in observers)

    least, news, pending = time.time() + 2 * timing.ttl + timing.udp_end, time.time(), waiting()
    while waiting() and time.time() < news + timing.patience or time.time() < least:
        for observer in observers:
            observer.look()
        if waiting() != pending:
            pending, news = waiting(), time.time()
        time.sleep(LOOK_EVERY)


def _wait_for_last_bytes(observers: Sequence[Observer], timing: Timing) -> None:
    """Until full reads show no byte more."""
    before, latest = [-1], time.time() + LONGEST_READ
    while time.time() < latest:
        time.sleep(timing.resync + 1.0)
        for observer in observers:
            observer.look()
        if (observed := [one.observed for one in observers]) == before:
            return
        before = observed


def _report(
    plan: Plan,
    record: Record,
    observers: Sequence[Observer],
    made: Stage,
    timing: Timing,
    requests: Mapping[str, Any],
) -> Outcome:
    knowable = Knowable(plan, record, timing)
    attributable = {one.plan.number for one in record.connections if knowable.attributable(one)}
    observer, *others = observers
    verdict = judge(record.connections, attributable, observer.seen, _opened(observer.samples))
    for other in others:  # of the same connections: what one of them names wrong is wrong
        more = judge(record.connections, attributable, other.seen, _opened(other.samples))
        verdict = replace(verdict, wrong=[*verdict.wrong, *more.wrong])
        observer.imbalances += other.imbalances
    calls = _calls(observer, requests, _rate(plan))
    total = calls.asked + calls.ties + calls.faulty
    return Outcome(
        plan, record, verdict, _bytes(plan, record, observer, _witnessed(plan, record, made)), calls,
        total_of(observer.samples, "flowmap_source_overruns_total"), 1000 * total / max(1, verdict.flows),
        _named_within(observer.samples), _evidence(observer, verdict),
        [(one.memory, one.descriptors) for one in observers], _by_process(observer.samples),
        _counted_once(observers) if others else None,
    )  # fmt: skip


def _by_process(samples: SAMPLES) -> tuple[int, int]:
    names = ("flowmap_continuity_connections_total", "flowmap_continuity_questions_saved_total")
    connections, questions = (total_of(samples, name) for name in names)
    return connections, questions


def _counted_once(observers: Sequence[Observer]) -> tuple[int, int]:
    """Each connection as one of the daemons counted it, in turns."""
    up, down = 0, 0
    for number, observer in enumerate(observers):
        for key, moved in observer.counted().items():
            if (key[2] + key[4]) % len(observers) == number:
                up, down = up + moved[0], down + moved[1]
    return up, down


def _evidence(observer: Observer, verdict: Verdict) -> Mapping[int, Any]:
    odd = [wrong.connection for wrong in verdict.wrong if wrong.connection] + [one for one, _ in verdict.missed]
    return {one.plan.number: observer.evidence(one.tuple, one.began + 0.3) for one in odd[:EXPLAINED]}


def _named_within(samples: SAMPLES) -> tuple[float, float]:
    counts: dict[float, float] = {}
    for (name, labels), value in samples.items():
        label = dict(labels)
        if name == "flowmap_attribution_delay_seconds_bucket" and label["state"] in ("attributed", "shared"):
            bound = float(label["le"])
            counts[bound] = counts.get(bound, 0.0) + value
    every = max(counts.values(), default=0.0)

    def within(share: float) -> float:
        return min((bound for bound, count in counts.items() if count >= share * every), default=float("nan"))

    return within(0.5), within(0.99)


def _opened(samples: SAMPLES) -> dict[tuple[str, str, str], int]:
    found: dict[tuple[str, str, str], int] = {}
    for (name, labels), value in samples.items():
        if name == "flowmap_deployment_connections_total":
            label = dict(labels)
            found[label["deployment_id"], label["peer"], label["protocol"]] = int(value)
    return found


def _witnessed(plan: Plan, record: Record, made: Stage) -> Mapping[str, tuple[int, int]]:
    """Bytes by client address; of the socket table, whose bytes are payload, what the clients themselves counted."""
    if MODES[plan.mode].source == "conntrack":
        return made.witnessed()
    found: dict[str, tuple[int, int]] = {}
    for one in record.connections:
        up, down = found.get(one.plan.address, (0, 0))
        found[one.plan.address] = up + one.sent, down + 2 * one.sent + PUSHED
    return found


def _udp(samples: SAMPLES) -> Mapping[Peer, tuple[int, int]]:
    """UDP bytes by deployment and peer on the page."""
    found: dict[Peer, tuple[int, int]] = {}
    for place, way in enumerate(WAYS):
        for (name, labels), value in samples.items():
            label = dict(labels)
            if name == f"flowmap_deployment_{way}_bytes_total" and label["protocol"] == "udp":
                counts = found.setdefault((label["deployment_id"], label["peer"]), (0, 0))
                found[label["deployment_id"], label["peer"]] = (
                    (int(value), counts[1]) if place == 0 else (counts[0], int(value))
                )
    return found


def _bytes(plan: Plan, record: Record, observer: Observer, witnessed: Mapping[str, tuple[int, int]]) -> Bytes:
    samples = observer.samples
    held: dict[str, set[str]] = {}
    for change in record.changes:
        for owner in change.owners:
            held.setdefault(owner, set()).add(change.address)

    def of(name: str) -> tuple[int, int]:
        found = [total_of(samples, f"flowmap_deployment_{way}_bytes_total", deployment_id=name) for way in WAYS]
        return found[0], found[1]

    def at(addresses: set[str]) -> tuple[int, int]:
        counts = [witnessed.get(address, (0, 0)) for address in addresses]
        return sum(up for up, _ in counts), sum(down for _, down in counts)

    names = {
        dict(labels).get("deployment_id", "") for name, labels in samples if name.startswith("flowmap_deployment_")
    }
    observed = [total_of(samples, f"flowmap_observed_{way}_bytes_total") for way in WAYS]
    named = {name: of(name) for name in names if name}
    return Bytes(
        observer.snapshots, tuple(observer.imbalances), tuple(observer.fallen), (observed[0], observed[1]),
        at(set(witnessed)), named, {name: at(held.get(name, set())) for name in named},
        _udp(samples), udp_bytes(record.connections, UDP_HEADERS[MODES[plan.mode].network.nft]),
    )  # fmt: skip


def _rate(plan: Plan) -> float:
    return FEW if MODES[plan.mode].processes else RATE


def _calls(observer: Observer, requests: Mapping[str, Any], rate: float) -> Calls:
    by_shape = dict(requests["byOperation"].get("GetDeploymentsByIp", {}))
    ties = by_shape.pop("link", 0) + by_shape.pop("exact", 0)
    faulty = sum(requests["faults"].values())
    ends = len(observer.clients) + 2 * len(observer.ends)
    asked = max(0, sum(by_shape.values()) - faulty)
    return Calls(ends, BURST + rate * (time.time() - observer.began), asked, ties, faulty)
