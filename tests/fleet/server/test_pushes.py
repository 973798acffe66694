"""Answers that the server passes on: how soon, and what their loss costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from flowmap.errors import Transient
from flowmap.fleet import pace, waiting
from flowmap.fleet.server.connection import SCRIPT, ServerAddress
from flowmap.fleet.server.pushes import Message
from tests.fleet.server.test_connection import RIGHTS
from tests.support.fleet import SCOPE, Wire, World, ask, endpoint, fleet, host, name_of, settled, until
from tests.support.valkey import ValkeyServer, running

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ValkeyServer]:
    monkeypatch.setattr(pace, "SOON", 600.0)  # nobody comes to look for an answer
    monkeypatch.setattr(pace, "IDLE", 600.0)
    monkeypatch.setattr(waiting, "REPORT_AGAIN", 600.0)
    with running(tmp_path) as one:
        settled(one)
        yield one


def orders() -> World:
    world = World()
    world.owners = {endpoint(A).address: "orders"}
    return world


class Deaf(Wire):
    """Loses messages."""

    def __init__(self, address: ServerAddress) -> None:
        super().__init__(address)
        self.lost: list[bytes] = []

    async def messages(self, channel: str) -> AsyncGenerator[bytes | None]:
        async for message in super().messages(channel):
            if message is None:
                yield None
            else:
                self.lost.append(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"owners ws ns a:0 -\n12.5\ne\nbody\nof\nit", Message("owners ws ns a:0 -", 12.5, "e", b"body\nof\nit")),
        (b"owners ws ns a:0 -\n12.5\ne\n", Message("owners ws ns a:0 -", 12.5, "e", b"")),
        (b"\n0.5", Message("", 0.5)),
        (b"", None),
        (b"question", None),
        (b"question\nsoon\ne\n", None),
        (b"question\n1\ne", None),
        (b"\xff\n1\n", None),
    ],
)
def test_a_message(data: bytes, message: Message | None) -> None:
    if message is None:
        with pytest.raises(ValueError):
            Message.parse(data)
    else:
        assert Message.parse(data) == message


@pytest.mark.parametrize("longest", [None, 10], ids=["with its answer", "without, as it is large"])
def test_an_answer_is_passed_on_to_all_who_wait(
    server: ValkeyServer, longest: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if longest is not None:
        script = server.directory / "exchange.lua"
        script.write_text(SCRIPT.read_text().replace("local PUSHED = 16384", f"local PUSHED = {longest}"))
        monkeypatch.setattr("flowmap.fleet.server.connection.SCRIPT", script)

    async def main() -> None:
        world = orders()
        world.hold.clear()
        hosts = [host(world, server.address, f"h{number}") for number in range(5)]
        async with fleet(*hosts):
            await until(lambda: all(one.member.figures.told for one in hosts))
            asking = [asyncio.create_task(ask(one, A)) for one in hosts]
            await until(lambda: world.calls)
            await asyncio.sleep(0.3)  # all have reported it
            world.hold.set()
            assert {name_of(answer) for answer in await asyncio.gather(*asking)} == {"orders"}
            assert len(world.calls) == 1
            assert sum(one.member.figures.saved for one in hosts) == 4
            assert not any(one.member.figures.lost_messages for one in hosts)

    asyncio.run(main())


def test_one_of_those_who_wait_asks_again_after_a_failure(server: ValkeyServer) -> None:
    async def main() -> None:
        world = orders()
        world.error = Transient("broken", retry_after=0.3)
        world.hold.clear()
        hosts = [host(world, server.address, f"h{number}") for number in range(3)]
        async with fleet(*hosts):
            await until(lambda: all(one.member.figures.told for one in hosts))
            asking = [asyncio.create_task(ask(one, A)) for one in hosts]
            await until(lambda: world.calls)
            await asyncio.sleep(0.3)
            world.hold.set()
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            world.error = None
            done = await asyncio.gather(*asking, return_exceptions=True)
            assert sorted(type(one).__name__ for one in done) == ["OwnersAnswer", "OwnersAnswer", "Transient"]
            assert len(world.calls) == 2 and world.calls[1][0] - world.calls[0][0] >= 0.3

    asyncio.run(main())


def test_a_host_whose_questions_wait_gets_calls_as_others_end(server: ValkeyServer) -> None:
    """Nobody polls, and more questions wait than may be called at once: each call that ends leads to the next."""

    async def main() -> None:
        world = World()
        hosts = [host(world, server.address, f"h{number}", rate=30.0, burst=2) for number in range(4)]
        async with fleet(*hosts):
            start = time.monotonic()
            for k, one in enumerate(hosts):
                one.set_traffic({("", "ns", endpoint(f"10.1.{k}.{n}"), None): 1.0 for n in range(15)})
            await asyncio.gather(*(ask(one, f"10.1.{k}.{n}") for k, one in enumerate(hosts) for n in range(15)))
            assert len(world.calls) == 60
            assert time.monotonic() - start < 10

    asyncio.run(main())


def test_without_its_subscription_a_host_looks_for_answers_itself(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        world = orders()
        one, other = host(world, server.address, "one"), host(world, server.address, "other")
        async with fleet(one, other):
            await until(lambda: one.member.figures.told and other.member.figures.told)
            first = other.member.figures.subscriptions
            world.hold.clear()
            asking = [asyncio.create_task(ask(plane, A)) for plane in (one, other)]
            await until(lambda: world.calls)
            await asyncio.sleep(0.2)
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(  # they subscribed again, and had a look
                lambda: min(plane.member.figures.subscriptions for plane in (one, other)) > first
            )
            world.hold.set()
            assert [name_of(answer) for answer in await asyncio.gather(*asking)] == ["orders"] * 2
            monkeypatch.setattr(pace, "SOON", 0.05)
            monkeypatch.setattr(pace, "REFUSED", 600.0)
            server.command("ACL", "SETUSER", "default", "-subscribe")
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: "subscribe" in str(one.member.figures.push_problem))
            await until(lambda: "subscribe" in str(other.member.figures.push_problem))
            await asyncio.gather(*(ask(plane, B) for plane in (one, other)))
            assert world.asked(B) in (["one"], ["other"])

    asyncio.run(main())


def test_a_lost_message_costs_time_only_and_is_counted(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REPORT_AGAIN", 4.0)
    monkeypatch.setattr(pace, "IDLE", 0.5)

    async def main() -> None:
        world = orders()
        world.hold.clear()
        wire = Deaf(server.address)
        one, deaf = host(world, server.address, "one"), host(world, server.address, "deaf", wire=wire)
        async with fleet(one, deaf):
            await until(lambda: one.member.figures.told and deaf.member.figures.told)
            asking = asyncio.create_task(ask(one, A))
            await until(lambda: world.calls)
            waits = asyncio.create_task(ask(deaf, A))
            await asyncio.sleep(1.5)
            world.hold.set()
            assert name_of(await asking) == "orders"
            await until(lambda: wire.lost)
            assert name_of(await waits) == "orders" and len(world.calls) == 1
            assert deaf.member.figures.lost_messages == 1
            await until(lambda: deaf.member.figures.told)  # it subscribed anew

    asyncio.run(main())


def test_a_message_counts_only_after_an_exchange_that_shows_the_same_clock(server: ValkeyServer) -> None:
    """The server's clock is set while a message is under way: its answer has the times of another clock."""

    async def main() -> None:
        world = orders()
        world.hold.clear()
        wire, shift = Wire(server.address), [0.0]
        wire.change = lambda reply: [f"{float(reply[0]) + shift[0]:.6f}", *reply[1:]]
        one, other = host(world, server.address, "one"), host(world, server.address, "other", wire=wire)
        async with fleet(one, other):
            await until(lambda: one.member.figures.told and other.member.figures.told)
            asking = asyncio.create_task(ask(one, A))
            await until(lambda: world.calls)
            other.set_traffic({("", "ns", endpoint(A), None): 1.0})
            waits = asyncio.create_task(ask(other, A))
            await asyncio.sleep(0.3)
            shift[0] = 100.0
            world.hold.set()
            assert name_of(await asking) == "orders"
            answer = await waits  # by a call of its own, or of another host, after all answers were dropped
            assert answer.instants is not None and len(world.calls) == 2
            called, _, _ = world.calls[1]
            assert answer.instants[0] <= called <= answer.instants[1] <= time.monotonic()

    asyncio.run(main())


def test_messages_of_other_programs_name_nothing(server: ValkeyServer) -> None:
    async def main() -> None:
        world = orders()
        world.hold.clear()
        one = host(world, server.address, "one")
        async with fleet(one):
            await until(lambda: one.member.figures.told)
            question = asyncio.create_task(ask(one, A))
            await until(lambda: world.calls)
            name = f"owners ws ns {A}:0 -"
            for message in (
                b"garbage",
                b"no question\n1\ne\nx",
                f"{name}\n1\nother\nx".encode(),
                f"{name}\n1e300\n\nx".encode(),
            ):
                server.command("PUBLISH", SCOPE.channel("one"), message)
            server.command("PUBLISH", SCOPE.channel("one"), f"{name}\n1\ne\nforged")
            await until(lambda: one.member.figures.refused["message"] and one.member.figures.refused["signature"])
            world.hold.set()
            assert name_of(await question) == "orders"

    asyncio.run(main())


def test_a_server_that_is_restarted_and_paused(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "IDLE", 1.0)

    async def main() -> None:
        world = orders()
        one, other = host(world, server.address, "one"), host(world, server.address, "other")
        async with fleet(one, other):
            await until(lambda: one.member.figures.told and other.member.figures.told)
            server.end()
            await until(lambda: not one.member.figures.told and not other.member.figures.told)
            server.start()
            settled(server)
            await until(lambda: one.member.figures.told and other.member.figures.told)
            assert {name_of(answer) for answer in await asyncio.gather(ask(one, A), ask(other, A))} == {"orders"}
            server.pause()
            asking = [asyncio.create_task(ask(plane, B)) for plane in (one, other)]
            await until(lambda: one.member.figures.failures["timeout"])
            server.resume()
            await asyncio.gather(*asking)
            assert len(world.asked(B)) == 1

    asyncio.run(main())


def test_a_user_limited_to_the_prefix_is_told_of_answers(server: ValkeyServer, tmp_path: Path) -> None:
    server.command("ACL", "SETUSER", "flowmap", "on", ">secret", "resetkeys", "resetchannels", "-@all", *RIGHTS)
    password = tmp_path / "password"
    password.write_text("secret")
    address = ServerAddress("127.0.0.1", server.port, 0, "flowmap", str(password))

    async def main() -> None:
        world = orders()
        world.error = Transient("broken", retry_after=0.2)
        world.hold.clear()
        one, other = host(world, address, "one"), host(world, address, "other")
        async with fleet(one, other):
            await until(lambda: one.member.figures.told and other.member.figures.told)
            asking = [asyncio.create_task(ask(plane, A)) for plane in (one, other)]
            await until(lambda: world.calls)
            await asyncio.sleep(0.2)
            world.hold.set()
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            world.error = None
            done = await asyncio.gather(*asking, return_exceptions=True)
            assert sorted(type(result).__name__ for result in done) == ["OwnersAnswer", "Transient"]
            assert one.member.figures.failures == other.member.figures.failures == {}

    asyncio.run(main())
