"""What will happen in a run: a pure function of its seed.

Addresses have tenures: for a time one deployment has the address (or several share it, or nobody does). Connections
belong to a tenure and end with it: closed, reset, or left behind without a word. Now and then a connection takes the
very tuple of an earlier one that was reset or left behind, also one of the address's former owner.

What no tenure does, because no answer could tell and the rules of time say so: an address never goes back to an owner
it had, changes hands only ``grace`` after the start of its last connection, and a UDP tuple is not used again (to the
kernel it would be the same flow).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle, islice
from typing import Any, Literal

End = tuple[str, int]
Mode = Literal["none", "api", "overrun"]
MODES: tuple[Mode, ...] = ("none", "api", "overrun")

TCP, UDP = 6, 17


class Fate(StrEnum):
    """How a connection ends."""

    CLOSE = "close"
    ABORT = "abort"
    """Reset by the client."""
    VANISH = "vanish"
    """The client is gone and says nothing; the kernel of the router keeps the entry."""
    PUSHED = "pushed"
    """The same, and later the server sends data to the address's next owner."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service end, and the address clients call it by where that is another (DNAT)."""

    end: End
    called: End


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment and the services it talks to."""

    id: str
    services: tuple[int, ...]
    """Positions in the schedule's list."""
    exact: bool = False
    """The control plane knows each of its connections by the client's port."""
    late: bool = False
    """It exists from its first address on."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection, as somebody who has the address at that time."""

    at: float
    number: int
    address: str
    port: int
    protocol: int
    service: int
    owner: str | None
    """Deployment that makes it; None: a client that is not a deployment."""
    life: float
    pause: float
    """Seconds between two exchanges."""
    size: int
    """Bytes of a request; the answer has twice as many."""
    fate: Fate
    reuses: int | None = None
    """Number of the connection that had this tuple before."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """The owners of an address from ``at`` on; empty: unowned."""

    at: float
    address: str
    owners: tuple[str, ...]
    stopped: tuple[str, ...] = ()
    """Deployments the control plane still lists there, without a running job."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Put these faults of the control plane in force, in place of those before."""

    at: float
    faults: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Storm:
    """Make so many unowned connections at once."""

    at: float
    datagrams: int


Action = Connect | Tenure | Faults | Storm


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before a run."""

    seed: int
    duration: float
    mode: Mode
    grace: float
    semantics: str
    services: tuple[Service, ...]
    deployments: tuple[Deployment, ...]
    addresses: tuple[str, ...]
    actions: tuple[Action, ...]
    """In order of time."""
    before: tuple[Connect, ...] = ()
    """Connections that are open when the daemon starts."""


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
class _Maker:
    """Draws one plan."""

    random: random.Random
    duration: float
    grace: float
    rate: float
    actions: list[Action] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    connects: int = 0
    ports: dict[str, int] = field(default_factory=dict)

    def deployment(
        self, name: str, services: tuple[int, ...] | None = None, *, exact: bool = False, late: bool = False
    ) -> str:
        """A new deployment; it talks to two to four services by default."""
        if services is None:
            services = tuple(sorted(self.random.sample(range(len(self.services)), self.random.randint(2, 4))))
        self.deployments[name] = Deployment(name, services, exact, late)
        return name

    def tenures(self, address: str, owners: list[tuple[str, ...]], *, stops: bool = False) -> None:
        """Give the address to these one after the other; the last keeps it. ``stops``: only their jobs go."""
        at, left = 0.0, list(owners)
        open_tuples: list[Connect] = []
        stopped: tuple[str, ...] = ()
        length = self.duration / max(1, len(owners))
        while left:
            now = left.pop(0)
            until = at + length * self.random.uniform(0.8, 1.1) if left else self.duration
            self.actions.append(Tenure(at, address, now, stopped))
            open_tuples += self._connections(address, now, at, until, open_tuples)
            if left:
                stopped = (*stopped, *now) if stops else ()
                self.actions.append(Tenure(until, address, (), stopped))
                at = until + self.random.choice(_GAPS)

    def _connections(
        self, address: str, owners: tuple[str, ...], since: float, until: float, before: list[Connect]
    ) -> list[Connect]:
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
        protocol, life, pause = draw.choices(
            [(TCP, 0.0, 0.1), (TCP, 0.4, 0.15), (TCP, 6.0, 0.5), (TCP, 9.0, 20.0), (UDP, 0.2, 0.1), (UDP, 6.0, 0.6)],
            [30, 22, 14, 6, 18, 4],
        )[0]
        life = min(life * draw.uniform(0.6, 1.8), until - at)
        fates = [Fate.CLOSE, Fate.ABORT, Fate.VANISH, Fate.PUSHED] if protocol == TCP else [Fate.CLOSE]
        fate = draw.choices(fates, [70, 14, 9, 7][: len(fates)])[0]
        service, reuses = draw.choice(wanted), None
        free = [one for one in earlier if protocol == TCP and one.service in wanted and _is_free(one, at, earlier)]
        if free and draw.random() < 0.35:
            again = draw.choice(free[-4:])
            service, port, reuses = again.service, again.port, again.number
        else:
            port = self.ports[address] = self.ports.get(address, _LOCAL_PORTS) + 1
        made = Connect(
            round(at, 3), self.connects, address, port, protocol, service, owner, round(life, 3), pause,
            draw.randint(1, 900), fate, reuses,
        )  # fmt: skip
        self.connects += 1
        self.actions.append(made)
        return made


def _is_free(one: Connect, at: float, earlier: list[Connect]) -> bool:
    """Whether its tuple is free: closed without TIME_WAIT and not used since."""
    taken = any(other.reuses == one.number for other in earlier)
    return one.protocol == TCP and one.fate is not Fate.CLOSE and one.at + one.life + 1.2 < at and not taken


def make_plan(
    seed: int, *, duration: float, mode: Mode, clients: int = 24, rate: float = 0.6, grace: float = 2.0
) -> Plan:
    """The plan of a run. ``clients``: addresses; ``rate``: connections a second from each; ``duration`` in seconds."""
    draw = random.Random(f"{seed} {mode}")
    maker = _Maker(draw, duration, grace, rate)
    maker.services = [_service(n) for n in range(max(6, clients // 3))]
    steady = [maker.deployment(f"d{n}") for n in range(clients // 2)]
    addresses = [f"10.1.{n % 2}.{10 + n}" for n in range(clients)]
    left = list(addresses)
    draw.shuffle(left)
    for _ in range(max(2, clients // 8)):
        maker.tenures(left.pop(), [()])  # unowned
    _shared(maker, left.pop(), left.pop())
    for n in range(max(1, clients // 12)):
        names = [(maker.deployment(f"stopping{n}-{k}"),) for k in range(2)]
        maker.tenures(left.pop(), [*names], stops=True)
    for n in range(len(left) // 2):
        owners: list[tuple[str, ...]] = [(name,) for name in draw.sample(steady, k=min(3, len(steady)))]
        if draw.random() < 0.4:
            owners[1] = (maker.deployment(f"late{n}", late=True),)
        if draw.random() < 0.25:
            owners[1] = ()  # for a while the address belongs to no deployment
        moves = 2 if duration < 30 else 3
        maker.tenures(left.pop(), owners[:moves])
    for address in left:
        maker.tenures(address, [(draw.choice(steady),)])
    before = tuple(_first_of(maker, address) for address in draw.sample(left, k=min(3, len(left))))
    actions = [*maker.actions, *_troubles(draw, seed, mode, duration)]
    ordered = tuple(sorted(actions, key=lambda action: action.at))
    semantics = draw.choice(["both", "connection"])
    return Plan(
        seed, duration, mode, grace, semantics, tuple(maker.services), tuple(maker.deployments.values()),
        tuple(addresses), ordered, before,
    )  # fmt: skip


def _service(n: int) -> Service:
    end = f"10.2.0.{10 + n // 2}", 9000 + n % 2
    return Service(end, ("10.9.0.1", 7000 + n) if n % 2 else end)


def _shared(maker: _Maker, apart: str, tied: str) -> None:
    """Two addresses with two deployments each: with services of their own, and with the same ones."""
    half = len(maker.services) // 2
    one = maker.deployment("apart0", tuple(range(half)))
    other = maker.deployment("apart1", tuple(range(half, len(maker.services))))
    maker.tenures(apart, [(one, other)])
    maker.tenures(tied, [tuple(maker.deployment(f"tied{n}", (0, 1), exact=True) for n in range(2))])


def _first_of(maker: _Maker, address: str) -> Connect:
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
    last, pause = (0.42, 0.11) if mode == "api" else (0.85, 0.25)
    at = duration * 0.06 + draw.uniform(0.5, 1.5)
    while mode != "none" and at < duration * last:
        if mode == "api":
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
