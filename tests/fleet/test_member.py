"""Hosts that share calls, with a real server: who asks, who gets which answer, and what each fault costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowmap.control.clock import Clock
from flowmap.control.port import OwnersAnswer
from flowmap.errors import ControlError, Transient
from flowmap.fleet import naming, pace, waiting
from flowmap.fleet.answers import Shared, Signer
from flowmap.fleet.requests import FleetScope, Kind, Request
from flowmap.fleet.server.clock import Bounds
from flowmap.fleet.server.connection import Argument
from flowmap.model.deployment import DeploymentInfo, Owner
from tests.support.fleet import KEY, SCOPE, Wire, World, ask, endpoint, fleet, host, name_of, settled, until
from tests.support.valkey import ValkeyServer, running

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
CLIENT = Request(Kind.OWNERS, "ws", "ns", endpoint(A), None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with running(tmp_path) as one:
        settled(one)
        yield one


def world_with(**owners: str) -> World:
    world = World()
    world.owners = {endpoint(address.replace("_", ".")[1:]).address: name for address, name in owners.items()}
    return world


def run(main: object) -> None:
    asyncio.run(main)  # type: ignore[arg-type]


def test_one_call_answers_all_who_wait(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        hosts = [host(world, server.address, f"h{number}") for number in range(5)]
        async with fleet(*hosts):
            answers = await asyncio.gather(*(ask(one, A) for one in hosts for _ in range(2)))
            assert {name_of(answer) for answer in answers} == {"orders"}
            assert len(world.calls) == 1
            await until(lambda: sum(one.member.figures.saved for one in hosts) == 4)
            (called, _, _) = world.calls[0]
            for answer in answers:  # each host knows when the answer was true, by its own clock
                assert answer.instants is not None
                asked, answered = answer.instants
                assert asked <= called <= answered <= time.monotonic()
                assert called - asked < 5

    run(main())


def test_an_answer_that_is_held_serves_at_once_and_only_once(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        one, other = host(world, server.address, "one"), host(world, server.address, "other")
        async with fleet(one, other):
            first = await ask(one, A)
            held = await ask(other, A)
            assert len(world.calls) == 1 and first.instants and held.instants
            assert held.instants[0] <= first.instants[0]
            world.owners[endpoint(A).address] = "payments"
            newer = await ask(other, A)  # it has the one that is held already, so it wants another
            assert (name_of(held), name_of(newer), len(world.calls)) == ("orders", "payments", 2)
            assert name_of(await ask(one, A)) == "payments" and len(world.calls) == 2

    run(main())


def test_a_question_is_not_repeated_within_its_recheck(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        hosts = [host(world, server.address, f"h{number}", recheck=0.5) for number in range(3)]
        async with fleet(*hosts):
            end = time.monotonic() + 3
            while time.monotonic() < end:
                await asyncio.gather(*(ask(one, A) for one in hosts))
        times = [at for at, _, _ in world.calls]
        assert len(times) >= 3
        assert min(later - earlier for earlier, later in zip(times, times[1:], strict=False)) >= 0.5

    run(main())


def test_calls_keep_to_the_rate_in_every_window(server: ValkeyServer) -> None:
    async def main() -> None:
        world = World()
        hosts = [host(world, server.address, f"h{number}", rate=20.0, burst=5) for number in range(8)]
        async with fleet(*hosts):
            await asyncio.gather(*(ask(one, f"10.1.0.{number}") for one in hosts for number in range(60)))
        times = [at for at, _, _ in world.calls]
        assert len(times) == 60 and len({what for _, _, what in world.calls}) == 60
        for start in times:
            assert len([at for at in times if start <= at < start + 1]) <= 20 + 5 + 1

    run(main())


def test_repeats_and_pages_are_paid_for(server: ValkeyServer) -> None:
    async def main() -> None:
        world = World()
        one = host(world, server.address, "one", rate=10.0, burst=2, exchanges=3)
        settled(server, tokens=0)
        async with fleet(one):
            start = time.monotonic()
            await asyncio.gather(ask(one, A), ask(one, B))
        assert len(world.calls) == 6
        for number, (at, _, _) in enumerate(world.calls):
            assert at - start >= number / 10 - 0.15

    run(main())


def test_listings_are_shared_with_their_time(server: ValkeyServer) -> None:
    async def main() -> None:
        world = World()
        one, other = host(world, server.address, "one"), host(world, server.address, "other")
        async with fleet(one, other):
            mine = await one.list_deployments("", "ns")
            theirs = await other.list_deployments("", "ns")
            assert mine.items == theirs.items and mine.asked_at is None
            assert theirs.asked_at is not None and time.time() - 5 < theirs.asked_at < time.time()
            jobs = [(await plane.list_jobs("", "ns", "id-a")).items for plane in (one, other)]
            assert jobs[0] == jobs[1] and len(world.calls) == 2

    run(main())


def test_with_trust_own_only_the_budget_is_shared(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        hosts = [host(world, server.address, f"h{number}", trust="own", keys=(), rate=20.0) for number in range(4)]
        async with fleet(*hosts):
            start = time.monotonic()
            answers = await asyncio.gather(*(ask(one, f"10.0.0.{n}") for one in hosts for n in range(1, 6)))
            assert len(world.calls) == 20 and time.monotonic() - start >= (20 - 6) / 20
            assert [name_of(answer) for answer in answers] == ["orders", None, None, None, None] * 4
            assert not server.command("EXISTS", *SCOPE.keys()[1:3], SCOPE.answers_key)

    run(main())


@pytest.mark.parametrize(
    "scope",
    [SCOPE._replace(account="another"), SCOPE._replace(endpoint="https://b"), SCOPE._replace(name="team")],
    ids=["account", "endpoint", "scope"],
)
def test_hosts_with_other_rights_never_mix(server: ValkeyServer, scope: FleetScope) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        settled(server, scope)
        one, other = host(world, server.address, "one"), host(world, server.address, "other", scope=scope)
        async with fleet(one, other):
            await ask(one, A)
            await ask(other, A)
            assert world.asked(A) == ["one", "other"]

    run(main())


def test_the_largest_traffic_is_asked_first_and_every_fourth_by_age(server: ValkeyServer) -> None:
    async def main() -> None:
        world = World()
        settled(server, tokens=0)
        one = host(world, server.address, "one", rate=10.0, burst=1, max_in_flight=1)
        addresses = [f"10.2.0.{number}" for number in range(1, 9)]
        async with fleet(one):
            asking = [asyncio.create_task(ask(one, address)) for address in addresses]
            await asyncio.sleep(0)
            one.set_traffic({("", "ns", endpoint(address), None): 10.0 * n for n, address in enumerate(addresses, 1)})
            await asyncio.gather(*asking)
        order = [addresses.index(what) for _, _, what in world.calls]
        # The first few may have been reported before their traffic.
        assert order.index(7) < order.index(5) < order.index(4)
        assert {0, 1} & set(order[:5])

    run(main())


class Counting(Wire):
    """Notes how many questions and results each exchange has."""

    def __init__(self, server: ValkeyServer) -> None:
        super().__init__(server.address)
        self.exchanged: list[int] = []

    async def exchange(self, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        self.exchanged.append(sum(int(number) for number in arguments[12:15]))
        return await super().exchange(keys, arguments)


def test_what_no_flow_waits_for_goes_with_the_next_that_hurries(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confirmations of a thousand hosts must not cost an exchange each."""
    monkeypatch.setattr(pace, "UNHURRIED", 0.001)  # one host gathers for as long as it may
    monkeypatch.setattr(pace, "IDLE", 600.0)

    async def main() -> None:
        world = world_with(_10_0_0_4="billing")
        wire = Counting(server)
        one, other = host(world, server.address, "one", wire=wire), host(world, server.address, "other")
        async with fleet(one, other):
            await until(lambda: one.member.figures.told and other.member.figures.told)
            await asyncio.sleep(0.2)
            wire.exchanged.clear()
            pairs = [("", "ns", endpoint(address), None) for address in (A, B, C)]
            one.set_traffic(dict.fromkeys(pairs[:2], 0.0))
            asking = [asyncio.create_task(ask(one, address)) for address in (A, B)]
            await asyncio.sleep(0.3)
            assert not wire.exchanged and not world.calls
            one.set_traffic(dict(zip(pairs, (0.0, 0.0, 1.0), strict=True)))
            asking.append(asyncio.create_task(ask(one, C)))
            await asyncio.gather(*asking)
            assert wire.exchanged[0] == 3
            # The answer to a call of another host is passed on, and waits for the next exchange too.
            world.calls.clear()
            world.hold.clear()
            called = asyncio.create_task(ask(other, D))
            await until(lambda: world.calls)
            patient = asyncio.create_task(ask(one, D))
            await asyncio.sleep(0.3)
            one.set_traffic({("", "ns", endpoint(D), None): 0.0})
            world.hold.set()
            await called
            await asyncio.sleep(0.3)
            assert not patient.done()
            one.set_traffic({("", "ns", endpoint(D), None): 1.0})
            assert name_of(await patient) == "billing" and len(world.calls) == 1

    run(main())


def test_a_question_that_no_flow_needs_is_given_up(server: ValkeyServer) -> None:
    async def main() -> None:
        world = World()
        settled(server, tokens=-1000)
        one = host(world, server.address, "one", rate=1.0, burst=1)
        async with fleet(one):
            kept, dropped = (asyncio.create_task(ask(one, address)) for address in (A, B))
            await asyncio.sleep(0.1)
            one.set_traffic({("", "ns", endpoint(A), None): 1.0})
            with pytest.raises(Transient, match="no flow waits"):
                await dropped
            assert not kept.done()
            kept.cancel()

    run(main())


def test_a_failed_call_rests_and_another_host_repeats_it(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        world.error = Transient("broken", retry_after=0.3)
        one, other = host(world, server.address, "one"), host(world, server.address, "other")
        async with fleet(one, other):
            results = [asyncio.create_task(ask(plane, A)) for plane in (one, other)]
            await asyncio.wait(results, return_when=asyncio.FIRST_COMPLETED)
            first = world.calls[0][0]
            world.error = None
            done = await asyncio.gather(*results, return_exceptions=True)
            assert sorted(type(result).__name__ for result in done) == ["OwnersAnswer", "Transient"]
            assert len(world.calls) == 2 and world.calls[1][0] - first >= 0.3

    run(main())


def test_too_many_questions_of_one_host_fail_at_once(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("flowmap.fleet.waiting.LIMIT", 1)
        settled(server, tokens=-1000)
        one = host(World(), server.address, "one", rate=1.0, burst=1)
        async with fleet(one):
            first = asyncio.create_task(ask(one, A))
            await asyncio.sleep(0)
            with pytest.raises(ControlError, match="wait for the fleet's budget"):
                await ask(one, B)
            first.cancel()

    run(main())


def test_narrowing_leaves_room_for_the_rest(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("flowmap.fleet.waiting.NARROWING", 1)
        world = world_with(_10_0_0_1="orders")
        settled(server, tokens=1)
        one = host(world, server.address, "one", rate=0.5, burst=5)  # no spare call for long
        async with fleet(one):
            narrowing = asyncio.create_task(one.find_owners("", "ns", endpoint(B), endpoint(B, 1)))
            await asyncio.sleep(0)
            with pytest.raises(ControlError, match="no spare calls"):
                await one.find_owners("", "ns", endpoint(B), endpoint(B, 2))
            assert name_of(await ask(one, A)) == "orders"
            assert not narrowing.done()
            narrowing.cancel()

    run(main())


# Faults of the server.


def test_without_a_server_each_host_uses_its_share(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LOCAL_AFTER", 1.0)

    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        hosts = [host(world, server.address, f"h{number}", rate=20.0, size=4) for number in range(2)]
        async with fleet(*hosts):
            await asyncio.gather(*(ask(one, A) for one in hosts))
            server.end()
            world.calls.clear()
            start = time.monotonic()
            asked = [f"10.3.0.{number}" for number in range(8)]
            await asyncio.gather(*(ask(one, address) for one in hosts for address in asked))
            times = [at for at, _, _ in world.calls]
            assert len(times) == 16  # nothing is shared
            assert min(times) - start >= 0.5  # the budget fails closed: not before the others may count it as missing
            for begin in times:  # each host at most rate / size
                assert len([at for at in times if begin <= at < begin + 1]) <= 2 * (20 / 4 + 1)
            assert all(not one.member.figures.up and one.member.figures.local_calls for one in hosts)
            server.start()
            settled(server)
            await until(lambda: all(one.member.figures.up for one in hosts))
            world.calls.clear()
            assert {name_of(answer) for answer in await asyncio.gather(*(ask(one, A) for one in hosts))} == {"orders"}
            assert len(world.calls) == 1

    run(main())


def test_a_server_without_state_grants_nothing_at_first(tmp_path: Path) -> None:
    async def main(server: ValkeyServer) -> None:
        world = World()
        one = host(world, server.address, "one")
        start = time.monotonic()
        async with fleet(one):
            await ask(one, A)
        assert world.calls[0][0] - start >= 5

    with running(tmp_path) as server:
        run(main(server))


def test_a_slow_server_delays_nothing_but_answers(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        one = host(world, server.address, "one")
        async with fleet(one):
            await ask(one, B)
            server.pause()
            question = asyncio.create_task(ask(one, A))
            await until(lambda: one.member.figures.failures["timeout"])
            for _ in range(20):  # the event loop, and so scrapes, run on
                begun = time.monotonic()
                await asyncio.sleep(0.01)
                assert time.monotonic() - begun < 5
            assert not question.done() and not one.member.figures.up
            server.resume()
            assert name_of(await question) == "orders"

    run(main())


def test_a_server_that_became_a_replica_is_away_until_it_is_not(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        one = host(world, server.address, "one")
        async with fleet(one):
            await ask(one, B)
            server.command("REPLICAOF", "127.0.0.1", "1")
            question = asyncio.create_task(ask(one, A))
            await until(lambda: one.member.figures.failures["read_only"])
            server.command("REPLICAOF", "NO", "ONE")
            assert name_of(await question) == "orders"

    run(main())


def test_a_full_server_is_away(server: ValkeyServer) -> None:
    async def main() -> None:
        one = host(world_with(_10_0_0_1="orders"), server.address, "one")
        async with fleet(one):
            await ask(one, B)
            server.command("CONFIG", "SET", "maxmemory", "1")
            question = asyncio.create_task(ask(one, A))
            await until(lambda: one.member.figures.failures["full"])
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert name_of(await question) == "orders"

    run(main())


def test_lost_keys_cost_time_only(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that evicts keys, or was flushed: no call is made twice at once, and every question is answered."""
    monkeypatch.setattr(waiting, "REPORT_AGAIN", 0.5)

    async def main() -> None:
        world = World()
        hosts = [host(world, server.address, f"h{number}", rate=50.0) for number in range(3)]
        async with fleet(*hosts):
            questions = [asyncio.create_task(ask(one, f"10.4.0.{n}")) for one in hosts for n in range(30)]
            for key in SCOPE.keys()[1:]:
                await asyncio.sleep(0.1)
                server.command("DEL", key)
            await asyncio.gather(*questions)
            assert all(one.member.figures.up for one in hosts)

    run(main())


def test_hosts_of_another_version_share_nothing(server: ValkeyServer) -> None:
    async def main() -> None:
        server.command("HSET", SCOPE.keys()[0], "version", "99")
        one = host(World(), server.address, "one")
        async with fleet(one):
            await until(lambda: one.member.figures.failures["version"])
            assert "another version" in str(one.member.figures.problem)

    run(main())


def test_an_account_that_is_not_known_is_a_reason_to_stay_away(server: ValkeyServer) -> None:
    async def main() -> None:
        one = host(World(), server.address, "one", scope=SCOPE._replace(account=""))
        async with fleet(one):
            await until(lambda: one.member.figures.failures["account"])
            assert one.member.figures.problem == "set fleet.scope"

    run(main())


# Faults of hosts.


def test_the_question_of_a_killed_asker_is_asked_again(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        world.hold.clear()
        wire = Wire(server.address)
        killed = host(world, server.address, "killed", lease=1.0, wire=wire)
        killed.start()
        lost = asyncio.create_task(ask(killed, A))
        await until(lambda: world.calls)
        wire.cut = True  # it reports nothing any more
        lost.cancel()
        world.hold.set()
        other = host(world, server.address, "other", lease=1.0)
        async with fleet(other):
            assert name_of(await ask(other, A)) == "orders"
        assert world.asked(A) == ["killed", "other"]
        assert world.calls[1][0] - world.calls[0][0] >= 0.9
        await killed.aclose()

    run(main())


def test_a_ticket_that_is_too_old_is_not_used(server: ValkeyServer) -> None:
    """A host that was stopped between its request and the reply: another one has the question by now."""

    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        skipped = [0.0]
        clock = Clock(monotonic=lambda: time.monotonic() + skipped[0])
        wire = Wire(server.address)
        one = host(world, server.address, "one", clock=clock, lease=10.0, wire=wire)

        def stopped(reply: list[Any]) -> list[Any]:
            if len(reply) > 3 and reply[3] and not skipped[0]:
                skipped[:] = [6.0, time.monotonic()]
            return reply

        wire.change = stopped
        async with fleet(one):
            assert name_of(await ask(one, A)) == "orders"
        ((called, _, _),) = world.calls
        assert called - skipped[1] >= 0.9  # the question rested, as after a failed call

    run(main())


def test_a_missing_host_costs_the_others_its_share(server: ValkeyServer) -> None:
    async def main() -> None:
        world = World()
        seconds = int(server.command("TIME")[0])
        hosts_key = SCOPE.keys()[-1]
        for number in range(5):
            server.command("ZADD", hosts_key, str(seconds - 60), f"gone-{number}")
        settled(server, tokens=0)
        one = host(world, server.address, "one", rate=20.0, burst=1, size=10)
        async with fleet(one):
            start = time.monotonic()
            await asyncio.gather(*(ask(one, f"10.5.0.{number}") for number in range(20)))
            assert time.monotonic() - start >= 19 / 10 - 0.2
            assert (one.member.figures.hosts, one.member.figures.missing) == (1, 5)
        assert server.command("ZSCORE", hosts_key, "one") is None  # a host that stops takes leave

    run(main())


def test_a_host_of_the_same_name_that_is_cut_off_counts_as_missing(server: ValkeyServer) -> None:
    """Cloned hosts, namespaces of one host, `localhost`."""

    async def main() -> None:
        seconds = int(server.command("TIME")[0])
        for name in ("localhost:9/a/2", "localhost:9/b/1", "other:9/a/1"):
            server.command("ZADD", SCOPE.keys()[-1], str(seconds - 60), name)
        clock = Clock(monotonic=lambda: time.monotonic() + skipped[0])
        skipped = [0.0]
        one = host(World(), server.address, "localhost:9/a/1", clock=clock)
        async with fleet(one):
            await until(lambda: (one.member.figures.hosts, one.member.figures.missing) == (1, 3))
            skipped[0] = naming.PREDECESSOR  # what its host's last start left behind is removed, no other name
            one.member.set_traffic({})
            await ask(one, A)
            await until(lambda: (one.member.figures.hosts, one.member.figures.missing) == (1, 2))
            assert server.command("ZSCORE", SCOPE.keys()[-1], "localhost:9/a/2") is None

    run(main())


# Answers that must not be used.


def forged(key: bytes = KEY, *, asked: float = -0.1, ahead: float = 0.0, question: str = CLIENT.text()) -> bytes:
    """An answer that names another owner, asked ``asked`` seconds from now."""
    now = time.time()
    info = DeploymentInfo(Owner("ws", "ns", "id-evil", "evil"))
    shared = Shared(now + asked, now + asked, Bounds(ahead - 0.01, ahead + 0.01), owners=(info,))
    return Signer(SCOPE.identity, [key]).encode(question, shared) or b""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: b"", "signature"),
        (lambda: b"garbage", "signature"),
        (lambda: forged(b"x" * 32), "signature"),
        (lambda: forged(question=CLIENT._replace(namespace="other").text()), "signature"),
        (lambda: forged()[:-1], "signature"),
        (lambda: forged(asked=60.0), "time"),
        (lambda: forged(asked=-3600.0), "time"),
        (lambda: forged(asked=-10.0, ahead=10.0), "clock"),
    ],
    ids=["empty", "garbage", "other key", "other question", "cut", "future", "replayed", "clock"],
)
def test_a_poisoned_answer_is_refused_and_the_host_asks_itself(
    server: ValkeyServer, answer: object, reason: str
) -> None:
    async def main() -> None:
        assert callable(answer)
        world = world_with(_10_0_0_1="orders")
        one = host(world, server.address, "one")
        async with fleet(one):
            await ask(one, B)
            answers, stored = SCOPE.keys()[6:8]
            server.command("HSET", answers, CLIENT.text(), answer())
            server.command("ZADD", stored, str(int(server.command("TIME")[0])), CLIENT.text())
            assert name_of(await ask(one, A)) == "orders"
            assert one.member.figures.refused == {reason: 1}
            assert world.asked(A) == ["one"]

    run(main())


def test_questions_of_other_programs_are_dropped(server: ValkeyServer) -> None:
    async def main() -> None:
        one = host(world_with(_10_0_0_1="orders"), server.address, "one")
        async with fleet(one):
            _, traffic, age, wanted, *_ = SCOPE.keys()
            for key in (traffic, age, wanted):
                server.command("ZADD", key, "1e17", "rm -rf /")
            assert name_of(await ask(one, A)) == "orders"
            await until(lambda: one.member.figures.refused["question"])
            await until(lambda: server.command("ZSCORE", traffic, "rm -rf /") is None)

    run(main())


@pytest.mark.parametrize(
    ("off", "grace", "shared"),
    [
        (0.0, 2.0, True),
        (1.0, 2.0, True),
        (30.0, 2.0, False),
        (-30.0, 2.0, False),
        (30.0, 60.0, True),
        (0.0, 0.0, False),
    ],
)
def test_clocks_apart(server: ValkeyServer, off: float, grace: float, shared: bool) -> None:
    """A wrong wall clock never moves an answer; beyond ``attribute.grace`` the answer only narrows."""

    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        wrong = Clock(wall=lambda: time.time() + off, monotonic=lambda: time.monotonic() + 1e6)
        asker = host(world, server.address, "asker", clock=wrong, grace=grace)
        other = host(world, server.address, "other", grace=grace)
        link = (endpoint(A), endpoint("10.1.0.1", 9092))
        async with fleet(asker, other):
            await ask(asker, A)
            answer = await ask(other, A)
            assert world.asked(A) == (["asker"] if shared else ["asker", "other"])
            called = world.calls[-1][0]
            assert answer.instants is not None and answer.instants[0] <= called <= answer.instants[1]
            assert answer.instants[1] - answer.instants[0] < 5
            world.calls.clear()
            for plane in (asker, other):
                assert isinstance(await plane.find_owners("", "ns", *link), OwnersAnswer)
            assert len(world.calls) == 1  # narrowing is shared in any case

    run(main())


def test_a_server_whose_clock_was_set_loses_its_answers(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        shift = [0.0]
        wire = Wire(server.address)
        wire.change = lambda reply: [f"{float(reply[0]) + shift[0]:.6f}", *reply[1:]]
        one = host(world, server.address, "one", wire=wire)
        async with fleet(one):
            await ask(one, A)
            await until(lambda: server.command("HLEN", SCOPE.answers_key))
            shift[0] = 100.0
            await ask(one, B)
            await until(lambda: not server.command("HEXISTS", SCOPE.answers_key, CLIENT.text()))

    run(main())


def test_settings_apply_at_run_time(server: ValkeyServer) -> None:
    async def main() -> None:
        world = world_with(_10_0_0_1="orders")
        one, other = host(world, server.address, "one"), host(world, server.address, "other")
        async with fleet(one, other):
            await ask(one, A)
            other.member.settings = replace(other.member.settings, trust="own", keys=())
            await ask(other, A)
            assert world.asked(A) == ["one", "other"]

    run(main())
