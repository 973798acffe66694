"""What will happen in a run: a pure function of its seed.

Addresses have tenures: for a time one deployment has the address (or several share it, or nobody does). Connections
belong to a tenure and end with it: closed, reset, or left behind without a word. Now and then a connection takes the
very tuple of an earlier one that was reset or left behind, also one of the address's former owner.

What no tenure does, because no answer could tell and the rules of time say so: an address never goes back to an owner
it had before an answer can have seen it without, and changes hands only ``grace`` after the start of its last
connection.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from tests.ground_truth import scenes
from tests.ground_truth.modes import MODES, Mode
from tests.ground_truth.plan import (
    TCP,
    UDP,
    Action,
    Connect,
    Deployment,
    Fate,
    Faults,
    Plan,
    Service,
    Storm,
    Tenure,
)

FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "error"},
    {"kind": "error", "status": 500},
    {"kind": "throttle", "retryAfterMs": 1500},
    {"kind": "throttle"},
    {"kind": "hang"},
    {"kind": "empty"},
    {"kind": "cut"},
    {"kind": "malformed"},
    {"kind": "wrong_types"},
    {"kind": "bad_element"},
    {"kind": "business", "status": 503},
    {"kind": "no_success"},
    {"kind": "no_data"},
    {"kind": "data_object"},
    {"kind": "json_null"},
    {"kind": "json_list"},
    {"kind": "redirect"},
    {"kind": "latency", "seconds": 1.2},
    {"kind": "clock", "seconds": 3600.0},
)
"""What the control plane may do. ``empty_list`` is not among them: a lie in good form is an answer."""

_LOCAL_PORTS = 20_000
_GAPS = (0.2, 1.0, 4.0)
_NEVER = float("inf")


@dataclass(slots=True)
class Maker:
    """Draws one plan."""

    random: random.Random
    mode: Mode
    duration: float
    grace: float
    rate: float
    actions: list[Action] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    connects: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)

    def add_services(self, number: int) -> None:
        """So many more services; clients call every other one by an address behind NAT."""
        network = self.mode.network
        for n in range(len(self.services), len(self.services) + number):
            end = network.service(n // 2), 9000 + n % 2
            translated = n % 2 and self.mode.source == "conntrack"  # sockets have the address before translation
            self.services.append(Service(end, (network.called, 7000 + n) if translated else end))

    def deployment(
        self, name: str, services: tuple[int, ...] | None = None, *, exact: bool = False, late: bool = False,
        undeclared: tuple[int, ...] = (),
    ) -> str:  # fmt: skip
        """A new deployment; it talks to two to four services by default."""
        if services is None:
            services = tuple(sorted(self.random.sample(range(len(self.services)), self.random.randint(2, 4))))
        self.deployments[name] = Deployment(name, services, exact, late, undeclared)
        return name

    def tenures(
        self, address: str, owners: list[tuple[str, ...]], *, stops: bool = False, told_after: tuple[float, ...] = ()
    ) -> None:
        """Give the address to these one after the other; the last keeps it. ``stops``: only their jobs go.

        ``told_after``: how late the control plane may learn of an owner; one is drawn.
        """
        at, left = 0.0, list(owners)
        open_tuples: list[Connect] = []
        stopped: tuple[str, ...] = ()
        length = self.duration / max(1, len(owners))
        while left:
            now = left.pop(0)
            until = at + length * self.random.uniform(0.8, 1.1) if left else self.duration
            late = self.random.choice(told_after) if told_after and at > 0 else 0.0
            self.actions.append(Tenure(at, address, now, stopped, late))
            if self.mode.scene == "dataflow" and now:
                self.hold_all(address, now[0], at, until)
            open_tuples += self.connections(address, now, at, until, open_tuples)
            if left:
                stopped = (*stopped, *now) if stops else ()
                self.actions.append(Tenure(until, address, (), stopped))
                at = until + self.random.choice(_GAPS)

    def hold_all(self, address: str, owner: str, since: float, until: float) -> None:
        """A connection to each service of the owner that lasts as long as it has the address."""
        for service in self.deployments[owner].services:
            at = since + self.random.uniform(0.05, 0.4)
            fate = self.random.choices([Fate.CLOSE, Fate.VANISH], [3, 1])[0]
            self.add(at, address, owner, service, TCP, until - at, self.random.uniform(0.3, 0.8), fate)

    def connections(
        self, address: str, owners: tuple[str, ...], since: float, until: float, before: list[Connect]
    ) -> list[Connect]:
        """Connections of the owners of an address between two instants, by chance on tuples of those ``before``."""
        made: list[Connect] = []
        at = since + self.random.uniform(0.05, 0.6)
        while at < until - max(self.grace, 0.3) - 0.5:
            owner = self.random.choice(owners) if owners else None
            made.append(self.connect(at, address, owner, until, [*before, *made]))
            at += self.random.expovariate(self.rate)
        return made

    def connect(self, at: float, address: str, owner: str | None, until: float, earlier: list[Connect]) -> Connect:
        """One connection of ``owner``, by chance on the tuple of one of ``earlier`` that is over."""
        draw = self.random
        wanted = self.deployments[owner].services if owner else tuple(range(len(self.services)))
        udp = 0 if self.mode.source == "sockets" else 1
        protocol, life, pause = draw.choices(
            [(TCP, 0.0, 0.1), (TCP, 0.4, 0.15), (TCP, 6.0, 0.5), (TCP, 9.0, 20.0), (UDP, 0.2, 0.1), (UDP, 6.0, 0.6)],
            [30, 22, 14, 6, 18 * udp, 4 * udp],
        )[0]
        life = min(life * draw.uniform(0.6, 1.8), until - at)
        fates = [Fate.CLOSE, Fate.ABORT, Fate.VANISH, Fate.PUSHED] if protocol == TCP else [Fate.CLOSE]
        fate = draw.choices(fates, [70, 14, 9, 7][: len(fates)])[0]
        taken = {one.reuses for one in earlier}
        free = [one for one in earlier if protocol == TCP and one.service in wanted and _is_free(one, at, taken)]
        again = draw.choice(free[-4:]) if free and draw.random() < 0.35 else None
        service = again.service if again else draw.choice(wanted)
        return self.add(at, address, owner, service, protocol, life, pause, fate, reuses=again)

    def add(
        self, at: float, address: str, owner: str | None, service: int, protocol: int, life: float, pause: float,
        fate: Fate, *, reuses: Connect | None = None, stays: bool = False,
    ) -> Connect:  # fmt: skip
        """This connection, from a port of its own or on the tuple of another one."""
        if reuses is None:
            port = self.ports[address] = self.ports.get(address, _LOCAL_PORTS) + 1
        else:
            port = reuses.port
        made = Connect(
            round(at, 3), self.connects, address, port, protocol, service, owner, round(life, 3), pause,
            self.random.randint(1, 900), fate, None if reuses is None else reuses.number, stays,
        )  # fmt: skip
        self.connects += 1
        self.actions.append(made)
        return made


def _is_free(one: Connect, at: float, taken: set[int | None]) -> bool:
    """Whether its tuple is free: closed without TIME_WAIT and not used since."""
    over = one.at + one.life + 1.2 < at
    return one.protocol == TCP and one.fate is not Fate.CLOSE and over and one.number not in taken


def make_plan(
    seed: int, *, duration: float, mode: str, clients: int = 24, rate: float = 0.6, grace: float = 2.0
) -> Plan:
    """The plan of a run. ``clients``: addresses; ``rate``: connections a second from each; ``duration`` in seconds."""
    draw = random.Random(f"{seed} {mode}")
    maker = Maker(draw, MODES[mode], duration, grace, rate)
    maker.add_services(max(6, clients // 3))
    maker.addresses = [maker.mode.network.client(n) for n in range(clients)]
    left = list(maker.addresses)
    draw.shuffle(left)
    scenes.SCENES[maker.mode.scene](maker, left)
    before = tuple(_first_of(maker, address) for address in draw.sample(left, k=min(3, len(left))))
    actions = [*maker.actions, *_troubles(draw, seed, maker.mode, duration)]
    ordered = tuple(sorted(actions, key=lambda action: action.at))
    semantics = draw.choice(maker.mode.readings)
    return Plan(
        seed, duration, mode, grace, semantics, tuple(maker.services), tuple(maker.deployments.values()),
        tuple(maker.addresses), ordered, before, maker.hosts,
    )  # fmt: skip


def _first_of(maker: Maker, address: str) -> Connect:
    """A long connection that is older than the daemon."""
    tenure = next(one for one in maker.actions if isinstance(one, Tenure) and one.address == address)
    port = maker.ports[address] = maker.ports.get(address, _LOCAL_PORTS) + 1
    service = maker.random.choice(maker.deployments[tenure.owners[0]].services)
    maker.connects += 1
    life = maker.duration * maker.random.uniform(0.5, 0.9)
    return Connect(
        0.0, maker.connects - 1, address, port, TCP, service, tenure.owners[0], life, 0.7, 200, Fate.CLOSE
    )  # fmt: skip


def _troubles(draw: random.Random, seed: int, mode: Mode, duration: float) -> list[Action]:
    actions: list[Action] = []
    kinds = islice(cycle(FAULTS), 6 * seed % len(FAULTS), None)  # a few seeds in a row have them all
    # Faults come close together and early, so that a good part of the run shows what was made of them in the end.
    last, pause = (0.42, 0.11) if mode.trouble == "api" else (0.85, 0.25)
    at = duration * 0.06 + draw.uniform(0.5, 1.5)
    while mode.trouble and at < duration * last:
        if mode.trouble == "api":
            length = draw.uniform(1.0, min(4.0, 0.1 * duration))
            first, second = next(kinds), next(kinds)
            moments = (at, (first,)), (at + length / 2, (second,)), (at + length, ())
            actions += [Faults(round(moment, 3), faults) for moment, faults in moments]
            at += length
        else:
            actions.append(Storm(round(at, 3), draw.randint(4000, 8000)))
        at += max(3.0, min(15.0, pause * duration)) * draw.uniform(0.8, 1.3)  # time for the breaker to close again
    return actions


def windows(plan: Plan) -> list[tuple[float, float]]:
    """When the control plane does not answer as it should, in the plan's time."""
    changes = [action for action in plan.actions if isinstance(action, Faults)]
    ends = [one.at for one in changes[1:]] + [_NEVER]
    return [(one.at, end) for one, end in zip(changes, ends, strict=True) if one.faults]
