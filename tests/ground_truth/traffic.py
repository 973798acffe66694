"""Who makes the connections of a run: an event loop among the clients, one among the services, a thread each.

Every client writes down what it did in the :class:`~tests.ground_truth.truth.Record`; the director tells the control
plane who has an address at the very instant it changes: after the last connection of the former owner is over, and
before the first one of the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

from tests.ground_truth.modes import MODES
from tests.ground_truth.plan import TCP, UDP, Connect, Fate, Faults, Plan, Service, Storm, Tenure
from tests.ground_truth.processes import ClientProcess
from tests.ground_truth.stage import Stage
from tests.ground_truth.truth import Change, Connection, Record
from tests.ground_truth.world import World

TCP_REPAIR = 19  # linux/tcp.h: closing a socket under repair sends nothing
PUSH_AFTER = 2.5
"""Seconds of silence after which the server of a :attr:`Fate.PUSHED` connection speaks."""
PUSH, ANSWER = b"P", b"A"
"""First byte of a connection: whether its server will speak unasked."""
OTHER_PROGRAM = 40
"""Where owners have processes of their own, one connection in so many is made by another process of the host."""
HASTE = 3.0
"""Seconds a client waits for an answer, or for its own last tasks, before it gives up."""

_KINDS = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Services:
    """The services: two bytes for every byte."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, ready: threading.Event, done: asyncio.Event) -> None:
        """Serve until ``done``."""
        loop = asyncio.get_running_loop()
        servers, datagrams = [], []
        for service in self._plan.services:
            listener = socket.create_server(service.end, family=family_of(service.end[0]), backlog=512)
            servers.append(await asyncio.start_server(self._connected, sock=listener))
            transport, _ = await loop.create_datagram_endpoint(_Echo, local_addr=service.end)
            datagrams.append(transport)
        ready.set()
        await done.wait()
        for server in servers:
            server.close()
        for transport in datagrams:
            transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode, pushed = b"", False
        while True:
            try:
                wait = PUSH_AFTER if mode == PUSH and not pushed else None
                chunk = await asyncio.wait_for(reader.read(1 << 16), wait)
            except TimeoutError:
                writer.write(b"?" * 100)
                pushed = True
                continue
            if not chunk:
                return
            mode = mode or chunk[:1]
            writer.write(chunk * 2)


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._transport.sendto(data * 2, address)


class Director:
    """Carries out a plan among the clients."""

    def __init__(self, plan: Plan, stage: Stage, world: World) -> None:
        self.record = Record()
        self._plan = plan
        self._stage = stage
        self._world = world
        self._holders: dict[str, tuple[str, ...]] = {}
        self._running: dict[str, dict[asyncio.Task[None], asyncio.Event]] = {}
        self._last_start: dict[str, float] = {}
        self._blind_since: float | None = None
        self._partial = False
        self._hold = asyncio.Event()
        self._tenures: dict[str, int] = {}
        self._processes: dict[tuple[str, int], ClientProcess] = {}

    async def before(self) -> None:
        """Tell the control plane who has what at the start, and open what is older than the daemon."""
        for action in self._plan.actions:
            if isinstance(action, Tenure) and action.at == 0.0:
                self._holds(action, time.time() - self._world.data_age)
        self._world.publish()
        for one in self._plan.before:
            self._begin(one, older=True)
        while not all(connection.received or connection.failure for connection in self.record.connections):
            await asyncio.sleep(0.1)  # a new network needs a second for its first IPv6 packets

    async def play(self) -> None:
        """Everything else, as planned; returns when the last connection is over."""
        began = time.time()
        for connection in self.record.connections:
            connection.began = began
        self._hold.set()
        publishing = asyncio.create_task(self._world.keep_publishing())
        for action in self._plan.actions:
            await asyncio.sleep(max(0.0, began + action.at - time.time()))
            match action:
                case Connect():
                    self._begin(action)
                case Tenure() if action.at > 0:
                    await self._change(action)
                case Faults():
                    self._fail(action)
                case Storm():
                    self.record.storms.append(time.time())
                    await asyncio.to_thread(self._stage.storm, action.datagrams)
        await asyncio.sleep(max(0.0, began + self._plan.duration - time.time()))
        for address in self._running:
            await self._leave(address)
        publishing.cancel()
        for process in self._processes.values():
            process.close()

    def _holds(self, tenure: Tenure, now: float) -> None:
        self._holders[tenure.address] = tenure.owners
        self._tenures[tenure.address] = self._tenures.get(tenure.address, 0) + 1
        self._world.hold(tenure, now)
        known = now + tenure.told_after + self._world.data_age
        self.record.changes.append(Change(now, tenure.address, frozenset(tenure.owners), known))

    async def _change(self, tenure: Tenure) -> None:
        """Reassign the address. Its former owner has no connection left when the control plane is updated."""
        await self._leave(tenure.address)
        if not tenure.owners:
            # What attribute.grace takes for granted.
            early = self._last_start.get(tenure.address, 0.0) + self._plan.grace + 0.3 - time.time()
            await asyncio.sleep(max(0.0, early))
        self._holds(tenure, time.time())
        self._world.publish()

    async def _leave(self, address: str) -> None:
        tasks = self._running.get(address, {})
        for over in tasks.values():
            over.set()
        if tasks:
            await asyncio.wait(list(tasks), timeout=2 * HASTE)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fail(self, action: Faults) -> None:
        now = time.time()
        self._world.plane.set_faults(action.faults)
        if self._blind_since is not None:
            window = self._blind_since, now
            self.record.blind.append(window)
            if self._partial:
                self.record.partial.append(window)
        self._blind_since = now if action.faults else None
        self._partial = any(fault["kind"] == "bad_element" for fault in action.faults)

    def _begin(self, wanted: Connect, *, older: bool = False) -> None:
        service = self._plan.services[wanted.service]
        possible = self._world.possible(wanted, self._holders[wanted.address])
        over = asyncio.Event()
        connection = Connection(wanted, service.called, service.end, possible, time.time(), older)
        self.record.connections.append(connection)
        self._last_start[wanted.address] = connection.began
        self._world.connected(wanted)
        task = asyncio.get_running_loop().create_task(self._live(connection, service, over))
        running = self._running.setdefault("" if wanted.stays else wanted.address, {})
        running[task] = over
        task.add_done_callback(lambda done: running.pop(done, None))

    async def _live(self, connection: Connection, service: Service, over: asyncio.Event) -> None:
        try:
            if (process := self._process_of(connection)) is not None:
                await process.live(connection, service, over)
            else:
                hold = self._hold if connection.older else None
                await live(connection, service, over, hold, self._stage.lingers)
        except asyncio.CancelledError as error:
            connection.failure = type(error).__name__
        finally:
            connection.ended = time.time()
            self._world.disconnected(connection.plan)

    def _process_of(self, connection: Connection) -> ClientProcess | None:
        """The process of the address's owner; None: this one, which stands for other programs of the host."""
        plan = connection.plan
        if not MODES[self._plan.mode].processes or connection.older or plan.number % OTHER_PROGRAM == 0:
            return None
        tenure = plan.address, self._tenures.get(plan.address, 0)
        if tenure not in self._processes:
            self._processes[tenure] = ClientProcess(self._stage.clients.path, self._stage.lingers)
        return self._processes[tenure]


async def live(
    connection: Connection, service: Service, over: asyncio.Event, hold: asyncio.Event | None, lingers: int
) -> None:
    """Make a connection, until it is over as planned or ``over`` is set; what goes wrong is in its ``failure``."""
    try:
        await _Client(connection, service, over, hold, lingers).live()
    except OSError as error:
        connection.failure = connection.failure or errno.errorcode.get(error.errno or 0, repr(error))
    except (TimeoutError, asyncio.CancelledError) as error:
        connection.failure = type(error).__name__


class _Client:
    """One connection, from its client's side."""

    def __init__(
        self, connection: Connection, service: Service, over: asyncio.Event, hold: asyncio.Event | None, lingers: int
    ) -> None:
        self._connection = connection
        self._service = service
        self._over = over
        self._hold = hold
        self._lingers = lingers
        self._loop = asyncio.get_running_loop()

    async def live(self) -> None:
        plan = self._connection.plan
        ending: Callable[[socket.socket], None] = _ENDINGS[plan.fate]
        sock = socket.socket(family_of(plan.address), _KINDS[plan.protocol])
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((plan.address, plan.port))
            async with asyncio.timeout(HASTE):
                await self._loop.sock_connect(sock, self._service.called)
            await self._talk(sock)
            ending(sock)
        finally:
            sock.close()

    async def _talk(self, sock: socket.socket) -> None:
        plan = self._connection.plan
        until = time.time() + plan.life
        await self._exchange(sock)
        if self._hold is not None:
            await self._hold.wait()
            until = time.time() + plan.life
        while not await self._is_over(min(plan.pause, until - time.time())) and time.time() < until:
            await self._exchange(sock)

    async def _is_over(self, wait: float) -> bool:
        """Wait so long, or until the address is left; whether it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), max(0.0, wait))
        return self._over.is_set()

    async def _exchange(self, sock: socket.socket) -> None:
        connection, size = self._connection, self._connection.plan.size
        mode = PUSH if connection.plan.fate is Fate.PUSHED else ANSWER
        before, connection.last_sent = connection.last_sent or time.time(), time.time()
        connection.sent += size
        connection.exchanges += 1
        async with asyncio.timeout(HASTE):
            await self._loop.sock_sendall(sock, mode + b"x" * (size - 1))
            if connection.plan.protocol == UDP and time.time() - before >= self._lingers:
                connection.parts += 1
            left = 2 * size
            while left > 0:
                got = len(await self._loop.sock_recv(sock, 1 << 16))
                if not got:
                    raise OSError(errno.ECONNRESET, "closed by the server")
                connection.received += got
                left -= got


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _vanish(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)


_ENDINGS: dict[Fate, Callable[[socket.socket], None]] = {
    Fate.CLOSE: lambda sock: None,
    Fate.ABORT: _reset,
    Fate.VANISH: _vanish,
    Fate.PUSHED: _vanish,
}


@contextmanager
def serving(plan: Plan, stage: Stage) -> Iterator[None]:
    """Serve among the services while the block runs."""
    ready = threading.Event()
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        done = asyncio.Event()
        control.append((asyncio.get_running_loop(), done))
        await Services(plan).run(ready, done)

    with running_in(stage, "services", main()):
        assert ready.wait(10), "the services did not come up"
        try:
            yield
        finally:
            loop, done = control[0]
            loop.call_soon_threadsafe(done.set)


@contextmanager
def running_in(stage: Stage, where: str, work: Coroutine[object, object, None]) -> Iterator[threading.Thread]:
    """Run ``work`` on a thread inside one of the namespaces; an error of it is raised at the end of the block."""
    failures: list[object] = []

    def unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or context["message"])

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(unheard)
        await work

    def run() -> None:
        with getattr(stage, where).entered():
            try:
                asyncio.run(main())
            except BaseException as error:
                failures.append(error)

    thread = threading.Thread(target=run, name=where, daemon=True)
    thread.start()
    yield thread
    thread.join(30)
    assert not failures, f"the {where}: {failures[0]!r}, and {len(failures) - 1} more"
    assert not thread.is_alive(), f"the {where} do not end"
