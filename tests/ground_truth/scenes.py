"""Who has which address in a run, for each mode: most modes share one scene, some have their own.

A scene takes addresses from ``left``. Those it leaves there have one owner for the whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.ground_truth.modes import Scene
from tests.ground_truth.plan import TCP, UDP, Connect, Fate, Tenure

if TYPE_CHECKING:
    from tests.ground_truth.schedule import Maker

LATE = (0.3, 1.0, 2.5, 6.0)
"""Seconds after which a control plane that is late knows an owner."""
LONGEST = 60.0
"""Seconds for which an owner has an address that changes hands, about; shorter in short runs."""
OLDER = 5.5
"""Seconds by which a program is older than the first TaskManager on its host: more than ``registration_lag``."""


def common(maker: Maker, left: list[str], *, told_after: tuple[float, ...] = ()) -> None:
    """Addresses without owner, with several, with owners whose jobs stop, and with one owner after the other."""
    clients = len(left)
    steady = [maker.deployment(f"d{n}") for n in range(clients // 2)]
    for _ in range(max(2, clients // 8)):
        maker.tenures(left.pop(), [()])  # unowned
    _shared(maker, left.pop(), left.pop())
    _stopping(maker, left, clients)
    _moving(maker, left, steady, unowned=True, told_after=told_after)
    for address in left:
        maker.tenures(address, [(maker.random.choice(steady),)])


def udp(maker: Maker, left: list[str]) -> None:
    """The same, and addresses whose owners use the same UDP tuples one after the other."""
    for n in range(max(2, len(left) // 6)):
        services = tuple(maker.random.sample(range(len(maker.services)), 2))
        owners = [maker.deployment(f"udp{n}-{k}", services) for k in range(2 if maker.duration < 30 else 4)]
        _bursts(maker, left.pop(), owners, services)
    common(maker, left)


def dataflow(maker: Maker, left: list[str]) -> None:
    """Each address has one deployment at a time, with a connection to each of its services, beside others.

    Strangers use the same services from outside.
    """
    clients = len(left)
    maker.add_services(clients)
    for n in range(max(2, clients // 8)):
        address = maker.mode.network.stranger(n)
        maker.addresses.append(address)
        maker.tenures(address, [()])
    steady = [maker.deployment(f"d{n}") for n in range(clients // 2)]
    _stopping(maker, left, clients)
    _moving(maker, left, steady, unowned=False)
    for address in left:
        maker.tenures(address, [(maker.random.choice(steady),)])


def hosts(maker: Maker, left: list[str]) -> None:
    """Services run on the hosts of TaskManagers, and jobs use them that do not declare them."""
    hosted = [n for n in range(len(maker.services)) if n % 4 < 2]  # every other address, with both its ports
    elsewhere = [n for n in range(len(maker.services)) if n % 4 >= 2]
    for n in range(max(2, len(left) // 8)):
        service = maker.random.choice(hosted)
        quiet = maker.deployment(f"quiet{n}", (maker.random.choice(elsewhere), service), undeclared=(service,))
        neighbour = maker.deployment(f"host{n}", tuple(maker.random.sample(elsewhere, 2)))
        maker.tenures(left.pop(), [(quiet, neighbour)])
        address = maker.services[service].end[0]
        maker.hosts[address] = (*maker.hosts.get(address, ()), neighbour)
    common(maker, left)


def late(maker: Maker, left: list[str]) -> None:
    """The control plane learns of owners late. Programs of a host are older than its TaskManager, also one that was
    there before."""
    for n in range(max(2, len(left) // 8)):
        _older_than_owner(maker, left.pop(), maker.deployment(f"young{n}"))
        _returning(maker, left.pop(), maker.deployment(f"back{n}"))
    common(maker, left, told_after=LATE)


def processes(maker: Maker, left: list[str]) -> None:
    """Each owner has an address for a while, and a process of its own there: with a connection that lasts as long, and
    others that last for some reads. A few are too short for their process to be found."""
    draw = maker.random
    for n, address in enumerate(left):
        at, owners = 0.0, 1 + int(maker.duration / draw.choice((15.0, 30.0, 60.0)))
        for k in range(owners):
            owner = maker.deployment(f"p{n}-{k}")
            until = maker.duration if k == owners - 1 else maker.duration * (k + draw.uniform(0.8, 1.0)) / owners
            maker.actions.append(Tenure(round(at, 3), address, (owner,)))
            services = maker.deployments[owner].services
            maker.add(at + 0.1, address, owner, services[0], TCP, until - at, 0.5, Fate.CLOSE)
            begins = at + draw.uniform(4.0, 8.0)
            while begins < until - maker.grace - 0.5:
                life = min(draw.choice((0.1, *[6.0] * 9)) * draw.uniform(1.0, 3.0), until - begins)
                fate = draw.choice((Fate.CLOSE, Fate.CLOSE, Fate.ABORT, Fate.VANISH))
                maker.add(begins, address, owner, draw.choice(services), TCP, life, 0.5, fate)
                begins += draw.expovariate(maker.rate)
            if k < owners - 1:
                maker.actions.append(Tenure(round(until, 3), address, ()))
                at = until + draw.choice((0.2, 1.0, 4.0))
    left.clear()


SCENES: Mapping[Scene, Callable[[Maker, list[str]], None]] = {
    "": common, "dataflow": dataflow, "hosts": hosts, "late": late, "processes": processes, "udp": udp,
}  # fmt: skip


def _shared(maker: Maker, apart: str, tied: str) -> None:
    """Two addresses with two deployments each: with services of their own, and with the same ones."""
    half = len(maker.services) // 2
    one = maker.deployment("apart0", tuple(range(half)))
    other = maker.deployment("apart1", tuple(range(half, len(maker.services))))
    maker.tenures(apart, [(one, other)])
    maker.tenures(tied, [tuple(maker.deployment(f"tied{n}", (0, 1), exact=True) for n in range(2))])


def _stopping(maker: Maker, left: list[str], clients: int) -> None:
    for n in range(max(1, clients // 12)):
        names = [(maker.deployment(f"stopping{n}-{k}"),) for k in range(2)]
        maker.tenures(left.pop(), [*names], stops=True)


def _moving(
    maker: Maker, left: list[str], steady: list[str], *, unowned: bool, told_after: tuple[float, ...] = ()
) -> None:
    """Half of the addresses change hands. ``unowned``: some belong to no deployment for a while."""
    draw = maker.random
    for n in range(len(left) // 2):
        owners: list[tuple[str, ...]] = [(name,) for name in draw.sample(steady, k=min(3, len(steady)))]
        if draw.random() < 0.4:
            owners[1] = (maker.deployment(f"late{n}", late=True),)
        if unowned and draw.random() < 0.25:
            owners[1] = ()
        moves = 2 if maker.duration < 30 else 3
        more = [(maker.deployment(f"moved{n}-{k}"),) for k in range(int(maker.duration / LONGEST) - moves)]
        maker.tenures(left.pop(), [*owners[:moves], *more], told_after=told_after)


def _bursts(maker: Maker, address: str, owners: list[str], services: tuple[int, ...]) -> None:
    """Each owner sends from the same ports, in bursts with pauses that are shorter than the kernel's time-out."""
    draw, at, length = maker.random, 0.0, maker.duration / len(owners)
    last: dict[int, Connect] = {}
    for n, owner in enumerate(owners):
        until = maker.duration if owner == owners[-1] else length * (n + 1)
        maker.actions.append(Tenure(round(at, 3), address, (owner,)))
        free = dict.fromkeys(services, at + 0.1)
        while min(free.values()) < until - maker.grace - 0.6:
            service = min(free, key=lambda one: free[one])
            began, life = free[service], draw.choice((0.0, 0.3, 1.5)) * draw.uniform(0.5, 1.0)
            last[service] = maker.add(
                began, address, owner, service, UDP, life, 0.25, Fate.CLOSE, reuses=last.get(service)
            )
            free[service] = began + life + draw.uniform(0.3, 2.0)
        if until < maker.duration:
            maker.actions.append(Tenure(round(until, 3), address, ()))
        at = until + draw.choice((0.2, 0.8))


def _returning(maker: Maker, address: str, owner: str) -> None:
    """An owner leaves its address. Programs without deployment connect from it, some vanish, and the owner returns."""
    draw, services = maker.random, maker.deployments[owner].services
    leaves = 0.2 * maker.duration
    returns = leaves + 0.8 + OLDER
    maker.actions.append(Tenure(0.0, address, (owner,)))
    maker.add(0.1, address, owner, services[0], TCP, leaves - 0.2, 0.3, Fate.CLOSE)
    maker.actions.append(Tenure(round(leaves, 3), address, ()))
    for fate, life in (
        (Fate.VANISH, 0.5),
        (Fate.VANISH, 2.0),
        (Fate.CLOSE, maker.duration),
        (Fate.CLOSE, maker.duration),
    ):
        at, stays = leaves + draw.uniform(0.3, 0.8), fate is Fate.CLOSE
        maker.add(at, address, None, draw.choice(services), TCP, life, draw.uniform(0.3, 0.8), fate, stays=stays)
    maker.actions.append(Tenure(round(returns, 3), address, (owner,)))
    maker.add(returns + 0.2, address, owner, services[0], TCP, maker.duration, 0.3, Fate.CLOSE)
    maker.connections(address, (owner,), returns, maker.duration, [])


def _older_than_owner(maker: Maker, address: str, owner: str) -> None:
    """A program without deployment keeps connections open while its host gets a TaskManager."""
    draw = maker.random
    starts = max(0.6 * maker.duration, OLDER + 1.0)
    maker.actions.append(Tenure(0.0, address, ()))
    for _ in range(3):
        service = draw.choice(maker.deployments[owner].services)
        maker.add(
            draw.uniform(0.3, starts - OLDER), address, None, service, TCP, maker.duration, draw.uniform(0.3, 0.8),
            Fate.CLOSE, stays=True,
        )  # fmt: skip
    maker.actions.append(Tenure(round(starts, 3), address, (owner,)))
    maker.connections(address, (owner,), starts, maker.duration, [])
