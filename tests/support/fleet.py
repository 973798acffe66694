"""Hosts of a fleet in one process: real members and a real server, over a control plane that counts its calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.port import ControlStatus, ListedDeployment, Listing, OwnersAnswer
from flowmap.errors import ControlError, FleetError
from flowmap.fleet.admission import Admission
from flowmap.fleet.control_plane import SharedControlPlane
from flowmap.fleet.member import Member
from flowmap.fleet.requests import FleetScope
from flowmap.fleet.server import connection
from flowmap.fleet.server.connection import Argument, Server, ServerAddress
from flowmap.fleet.server.exchange import VERSION
from flowmap.fleet.settings import MemberSettings
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, Job, Owner
from tests.support.valkey import ValkeyServer

SCOPE = FleetScope("https://control-plane.example", "key-id", "")
KEY = b"the key of the fleet, 32 letters"
SETTINGS = MemberSettings(
    host="host",
    trust="all",
    size=10,
    keys=(KEY,),
    rate=100.0,
    burst=5,
    max_in_flight=2,
    lease=30.0,
    recheck=0.2,
    grace=2.0,
)


def allow_for_company() -> None:
    """Many hosts in one process, on a busy machine, wait for each other: that is not the server's delay."""
    connection.TIMEOUT = 10.0


class World:
    """Who owns which address, and every call that asked."""

    def __init__(self) -> None:
        self.owners: dict[Address, str] = {}
        self.calls: list[tuple[float, str, str]] = []
        """Monotonic instant, host, and what was asked."""
        self.took = 0.01
        self.error: ControlError | None = None
        self.hold = asyncio.Event()
        """Calls wait for it."""
        self.hold.set()

    def asked(self, text: str) -> list[str]:
        """The hosts that asked so."""
        return [host for _, host, what in self.calls if what == text]


class CountedPlane:
    """The control plane of one host, as the port."""

    endpoint = SCOPE.endpoint
    workspace = "ws"

    def __init__(self, world: World, host: str, admission: Admission, clock: Clock, exchanges: int = 1) -> None:
        self._world, self._host, self._admission, self._clock = world, host, admission, clock
        self.exchanges = exchanges
        self.resting_for = 0.0

    def start(self) -> None:
        """Nothing."""

    def status(self) -> ControlStatus:
        return ControlStatus(resting_for=self.resting_for)

    async def _exchange(self, what: str) -> tuple[float, float]:
        asked_at = 0.0
        for number in range(1, self.exchanges + 1):
            await self._admission.admit(True, number)
            asked_at = self._clock.wall()
            self._world.calls.append((time.monotonic(), self._host, what))
            await self._world.hold.wait()
            await asyncio.sleep(self._world.took)
            if self._world.error is not None:
                raise self._world.error
        return asked_at, self._clock.wall()

    async def find_owners(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> OwnersAnswer:
        end = source or destination
        assert end is not None
        name = self._world.owners.get(end.address)
        asked, answered = await self._exchange(str(end.address))
        infos = () if name is None else (DeploymentInfo(Owner(workspace, namespace, f"id-{name}", name)),)
        return OwnersAnswer(infos, asked, answered)

    async def list_deployments(self, workspace: str, namespace: str) -> Listing[ListedDeployment]:
        await self._exchange("deployments")
        return Listing((ListedDeployment(Owner(workspace, namespace, "id-a", "a")),))

    async def list_jobs(self, workspace: str, namespace: str, deployment_id: str) -> Listing[Job]:
        await self._exchange(f"jobs {deployment_id}")
        return Listing((Job("job", "RUNNING", 1.0),))

    async def aclose(self) -> None:
        """Nothing."""


class Wire(Server):
    """A connection that a test cuts, or whose replies it changes."""

    def __init__(self, address: ServerAddress) -> None:
        super().__init__(address)
        self.cut = False
        self.change: Callable[[list[Any]], list[Any]] = lambda reply: reply

    async def exchange(self, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        if self.cut:
            raise FleetError("cut", reason="connect")
        return self.change(await super().exchange(keys, arguments))


def host(
    world: World,
    address: ServerAddress,
    name: str,
    *,
    scope: FleetScope = SCOPE,
    clock: Clock = SYSTEM_CLOCK,
    exchanges: int = 1,
    wire: Wire | None = None,
    **changes: object,
) -> SharedControlPlane:
    """One host, not started."""
    admission = Admission()
    plane = CountedPlane(world, name, admission, clock, exchanges)

    async def find_scope() -> FleetScope:
        if not scope.account:
            raise FleetError("set fleet.scope", reason="account")
        return scope

    settings = replace(SETTINGS, host=name, **changes)  # type: ignore[arg-type]
    member = Member(plane, wire or Server(address), settings, scope=find_scope, admission=admission, clock=clock)
    return SharedControlPlane(plane, member, label="")


@contextlib.asynccontextmanager
async def fleet(*hosts: SharedControlPlane) -> AsyncIterator[None]:
    """The hosts, running."""
    for one in hosts:
        one.start()
    try:
        yield
    finally:
        await asyncio.gather(*(one.aclose() for one in hosts))


def settled(valkey: ValkeyServer, scope: FleetScope = SCOPE, *, tokens: float = 5.0) -> None:
    """Give the server a state, as if it had been there for long: a new one grants nothing at first."""
    seconds, micros = valkey.command("TIME")
    now = f"{int(seconds)}.{int(micros):06d}"
    fields = {"version": str(VERSION), "epoch": "e", "last": now, "tokens": str(tokens), "filled": now}
    valkey.command("HSET", scope.keys()[0], *(word for pair in fields.items() for word in pair))


def endpoint(text: str, port: int = 0) -> Endpoint:
    return Endpoint(Address.parse(text), port)


async def ask(plane: SharedControlPlane, address: str) -> OwnersAnswer:
    """Who owns this client address."""
    async with asyncio.timeout(20):
        return await plane.find_owners("", "ns", endpoint(address), None)


def name_of(answer: OwnersAnswer) -> str | None:
    return answer.deployments[0].owner.name if answer.deployments else None


async def until(condition: object) -> None:
    """Wait until a function returns true."""
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)
