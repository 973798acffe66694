"""Names from the service endpoints alone: rows, and a world in which the assumption holds."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from flowmap.attribute.answers.shape_stats import SOON
from flowmap.attribute.narrowing.inference import PROOF_WAIT
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import Decide, TakeStep
from flowmap.flows.columns import Row
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.attribution import AttributionRun
from tests.support.records import Record, batch_of

INSIDE, OUTSIDE = "10.0.0.0/16", "10.9.0.1"


def named(name: str) -> Owner:
    return Owner("w", "ns", name, name)


A, B, C = named("a"), named("b"), named("c")


class DataFlow(AttributionRun):
    """An API of the data-flow reading: it names the users of service ports, and nobody for a client."""

    def __init__(self, users: dict[int, set[Owner]], **settings: object) -> None:
        wanted = {"namespaces": ("ns",), "deployment_networks": (INSIDE,), **settings}
        super().__init__(AttributionSettings.model_validate(wanted), max_flows=2000)
        self.users = users
        self._number = 0

    def open(self, client: str, port: int, *, present: bool = True) -> Record:
        """``present``: whether the client is there as long as the flow is."""
        self._number += 1
        flags = int(Flag.PRESENT) if present else 0
        record = Record(RecordKind.OPENED, client, 1000 + self._number, "10.1.0.1", port, id=self._number, flags=flags)
        self.observe(record)
        return record

    def close(self, record: Record) -> None:
        self.observe(replace(record, kind=RecordKind.CLOSED))

    def truth(self, question: Question) -> set[Owner]:
        if question.shape is Shape.SINK and question.destination is not None:
            return self.users.get(question.destination.port, set())
        return set()

    def settle(self) -> None:
        """Everything that is due is asked and answered, twice: a client first, then its service endpoints."""
        for _ in range(3):
            for question in self.ask():
                self.answer(question, *self.truth(question))
            self.now += 0.5
            self.decide()

    def settle_late(self) -> None:
        """The same after it is clear that no client is ever named."""
        self.settle()
        self.now += SOON
        self.settle()

    def owners(self, record: Record) -> tuple[State, set[str]]:
        """State and owners of an open flow."""
        columns = self.accounting.table.columns
        for row in self.accounting.table.live().tolist():
            if int(columns.id[row]) == record.id and int(columns.flags[row]) & Row.OPEN:
                decision = self.attribution.decisions.get(int(columns.verdict[row]))
                return (decision.state, {one.name for one in decision.owners}) if decision else (State.PENDING, set())
        raise AssertionError("no such flow")


USERS = {1: {A, B}, 2: {A, C}, 3: {B}}


def test_one_endpoint_leaves_its_users() -> None:
    run = DataFlow(USERS)
    flow = run.open("10.0.0.1", 1)
    run.settle_late()
    assert run.owners(flow) == (State.SHARED, {"a", "b"})


def test_what_is_used_together_leaves_one() -> None:
    run = DataFlow(USERS)
    first, second, other = run.open("10.0.0.1", 1), run.open("10.0.0.1", 2), run.open("10.0.0.1", 99)
    run.settle_late()
    assert run.owners(first) == run.owners(second) == (State.ATTRIBUTED, {"a"})
    assert run.owners(other) == (State.UNKNOWN, set()), "no deployment uses it"


def test_a_later_connection_narrows_what_is_open() -> None:
    run = DataFlow(USERS)
    first = run.open("10.0.0.1", 1)
    run.settle_late()
    assert run.owners(first)[0] is State.SHARED
    second = run.open("10.0.0.1", 2)
    run.settle()
    assert run.owners(second) == run.owners(first) == (State.ATTRIBUTED, {"a"})


def test_nobody_uses_all_of_them() -> None:
    run = DataFlow(USERS)
    flows = [run.open("10.0.0.1", port) for port in (2, 3)]
    run.settle_late()
    assert [run.owners(flow) for flow in flows] == [(State.UNKNOWN, set())] * 2


def test_whom_a_connection_ruled_out_stays_so_after_its_end() -> None:
    run = DataFlow(dict(USERS))
    flow, other = (run.open("10.0.0.1", port) for port in (2, 3))
    run.settle_late()
    run.close(other)
    for _ in range(3):
        run.now += 60
        run.settle()
        assert run.owners(flow) == (State.UNKNOWN, set())
    run.users[2] = {A, C, named("d")}  # one who was not known to use the endpoint may be the owner
    run.now += 60
    run.settle()
    assert run.owners(flow) == (State.ATTRIBUTED, {"d"})


def test_a_session_cluster_is_not_narrowed() -> None:
    run = DataFlow(USERS, one_deployment_per_client=False)
    flows = [run.open("10.0.0.1", port) for port in (1, 2, 3)]
    run.settle_late()
    assert [run.owners(flow)[1] for flow in flows] == [{"a", "b"}, {"a", "c"}, {"b"}]


def test_connections_one_after_the_other_are_not_put_together() -> None:
    run = DataFlow(USERS)
    run.settle_late()
    first = run.open("10.0.0.1", 3)
    run.settle()
    run.close(first)
    second = run.open("10.0.0.1", 2)
    run.settle_late()
    assert run.owners(second)[1] == {"a", "c"}


def test_an_entry_that_a_former_owner_left_behind_does_not_count() -> None:
    run = DataFlow({1: {A, B}, 2: {B, C}})
    run.open("10.0.0.1", 1, present=False)  # of A, whose address is C's now
    run.settle_late()
    second = run.open("10.0.0.1", 2)
    run.settle()
    assert run.owners(second) == (State.PENDING, set()), "the client may still send on the first"
    run.now += PROOF_WAIT
    run.decide()
    assert run.owners(second) == (State.SHARED, {"b", "c"})


def test_the_users_of_an_endpoint_may_change_within_grace() -> None:
    run = DataFlow({1: {A}}, semantics="dataflow")
    run.open("10.0.0.2", 1)
    for question in run.ask():
        run.answer(question, *run.truth(question))  # the first answers of all
    run.users[1] = {A, B}
    flow = run.open("10.0.0.1", 1)  # of B, a second later
    run.decide()
    assert run.owners(flow)[1] == set()
    run.settle()
    assert run.owners(flow) == (State.SHARED, {"a", "b"})


class TwoReadings(DataFlow):
    """B reads from the service, A writes to it until it stops."""

    def truth(self, question: Question) -> set[Owner]:
        return {B} if question.shape is Shape.SOURCE else super().truth(question)


def test_an_entry_of_a_deployment_that_has_stopped_is_not_of_the_other_user() -> None:
    run = TwoReadings({1: {A}}, semantics="dataflow")
    run.open("10.0.0.2", 1)
    run.settle()
    run.now += 30
    left = run.open("10.0.0.1", 1, present=False)  # of A
    run.users[1] = set()
    run.settle()
    assert run.owners(left)[1] == set()


@pytest.mark.parametrize("semantics", ["both", "connection", "dataflow"])
def test_a_client_outside_is_never_a_deployments(semantics: str) -> None:
    run = DataFlow(USERS, semantics=semantics)
    flow = run.open(OUTSIDE, 3)
    assert not [one for one in run.ask() if one.shape is Shape.CLIENT]
    run.settle_late()
    assert run.owners(flow) == (State.UNKNOWN, set())


def test_without_networks_nothing_is_inferred() -> None:
    run = DataFlow(USERS, deployment_networks=())
    flow = run.open("10.0.0.1", 3)
    run.settle_late()
    assert run.owners(flow) == (State.UNKNOWN, set())


def test_an_api_that_names_clients_is_believed() -> None:
    run = DataFlow(USERS)
    flow, named_client = run.open("10.0.0.1", 3), run.open("10.0.0.2", 1)
    for question in run.ask():
        client = question.source is not None and str(question.source.address) == "10.0.0.2"
        run.answer(question, *({A} if question.shape is Shape.CLIENT and client else run.truth(question)))
    run.decide()
    run.now += SOON
    run.settle()
    assert run.owners(named_client) == (State.ATTRIBUTED, {"a"})
    assert run.owners(flow) == (State.UNKNOWN, set())


def test_the_evidence_says_inferred() -> None:
    run = DataFlow(USERS)
    run.open("10.0.0.1", 1)
    run.open("10.0.0.1", 2)
    run.settle_late()
    causes = {decision.cause for decision in run.attribution.decisions.values() if decision.inferred}
    assert any("inferred" in cause and "narrowed by 2 endpoints" in cause for cause in causes)


class Tracked(DataFlow):
    """The same as conntrack shows it: a new flow at once, and by full reads whether its client sends."""

    def __init__(self, users: dict[int, set[Owner]], **settings: object) -> None:
        super().__init__(users, **{"semantics": "dataflow", **settings})
        self._sent: dict[Record, int] = {}

    def open(self, client: str, port: int, *, present: bool = False) -> Record:
        record = super().open(client, port, present=present)
        self._sent[record] = 100
        return record

    def close(self, record: Record) -> None:
        del self._sent[record]
        super().close(record)

    def settle(self) -> None:
        """Everything that is due is asked and answered within a second."""
        for _ in range(3):
            for question in self.ask():
                self.answer(question, *self.truth(question))
            self.now += 0.3
            self.accounting.apply(TakeStep(CaughtUp(self.now), self.now, self.now))
            self.accounting.apply(Decide(self.now))

    def read(self, *sending: Record) -> None:
        """A full read, 2 s later, and what is decided then. ``sending``: the flows whose clients sent meanwhile."""
        self.now += 2
        for record in sending:
            self._sent[record] += 100
        seen = [
            replace(record, kind=RecordKind.DUMPED, counters=(sent, 0, sent // 100, 0))
            for record, sent in self._sent.items()
        ]
        for step in (ReadStarted("timer"), batch_of(*seen), ReadFinished(True), CaughtUp(self.now)):
            self.accounting.apply(TakeStep(step, self.now, self.now - 0.1))
        self.accounting.apply(Decide(self.now))

    def open_early(self, port: int, *, sends: bool = True) -> Record:
        """A flow that was decided, and read often, before any other."""
        flow = self.open("10.0.0.1", port)
        self.settle()
        for _ in range(3):
            self.read(*([flow] if sends else []))
        return flow


TOGETHER = [
    pytest.param({1: {A}, 2: {B, C}}, (State.UNKNOWN, set()), id="no deployment uses both"),
    pytest.param({1: {A, B}, 2: {B, C}}, (State.ATTRIBUTED, {"b"}), id="one uses both"),
]


@pytest.mark.parametrize("users, expected", TOGETHER)
@pytest.mark.parametrize("first, second", [(1, 2), (2, 1)])
def test_a_new_connection_waits_until_the_overlap_is_proven(
    users: dict[int, set[Owner]], expected: tuple[State, set[str]], first: int, second: int
) -> None:
    run = Tracked(users)
    older = run.open_early(first)
    before = run.owners(older)
    newer = run.open("10.0.0.1", second)
    run.settle()
    assert run.owners(newer) == (State.PENDING, set())
    assert run.owners(older) == before
    run.read(older, newer)
    assert run.owners(newer) == (State.PENDING, set())
    run.read(older, newer)
    assert run.owners(newer) == run.owners(older) == expected


@pytest.mark.parametrize("users, expected", TOGETHER)
def test_connections_that_open_together_wait_for_each_other(
    users: dict[int, set[Owner]], expected: tuple[State, set[str]]
) -> None:
    run = Tracked(users)
    flows = [run.open("10.0.0.1", port) for port in (1, 2)]
    run.settle()
    run.read(*flows)
    assert [run.owners(flow) for flow in flows] == [(State.PENDING, set())] * 2
    run.read(*flows)
    assert [run.owners(flow) for flow in flows] == [expected] * 2


@pytest.mark.parametrize("users, expected", TOGETHER)
@pytest.mark.parametrize("idle, busy", [(1, 2), (2, 1)])
def test_an_idle_connection_narrows_once_its_client_sends(
    users: dict[int, set[Owner]], expected: tuple[State, set[str]], idle: int, busy: int
) -> None:
    run = Tracked(users)
    older = run.open_early(idle, sends=False)
    newer = run.open("10.0.0.1", busy)
    run.settle()
    for _ in range(10):
        run.read(newer)
    assert run.owners(newer)[1] == {one.name for one in users[busy]}, "by what is proven"
    run.read(older, newer)
    assert run.owners(newer) == run.owners(older) == expected


def test_a_connection_that_is_idle_itself_is_narrowed_once_its_client_sends() -> None:
    run = Tracked({1: {A}, 2: {B, C}})
    older = run.open_early(2)
    newer = run.open("10.0.0.1", 1)
    run.settle()
    for _ in range(10):
        run.read(older)
    assert run.owners(newer)[1] == {"a"}
    for _ in range(2):
        run.read(older, newer)
    assert run.owners(newer) == run.owners(older) == (State.UNKNOWN, set())


def test_a_stale_entry_delays_a_name_but_never_changes_it() -> None:
    run = Tracked({1: {A}, 2: {B, C}})
    stale = run.open_early(2, sends=False)
    newer = run.open("10.0.0.1", 1)
    run.settle()
    states = []
    for _ in range(20):
        run.read(newer)
        states.append(run.owners(newer)[0])
    assert set(states[:2]) == {State.PENDING} and set(states[2:]) == {State.ATTRIBUTED}
    assert run.owners(stale) == (State.SHARED, {"b", "c"})


@pytest.mark.parametrize("other", [{A}, {A, B}, set()], ids=["the same", "more users", "no user"])
def test_an_overlap_that_changes_nothing_is_not_waited_for(other: set[Owner]) -> None:
    run = Tracked({1: {A}, 2: other})
    run.open_early(2, sends=False)
    newer = run.open("10.0.0.1", 1)
    run.settle()
    assert run.owners(newer) == (State.ATTRIBUTED, {"a"})


def test_a_connection_of_another_client_is_not_waited_for() -> None:
    run = Tracked({1: {A}, 2: {B, C}})
    run.open_early(2)
    newer = run.open("10.0.0.2", 1)
    run.settle()
    assert run.owners(newer) == (State.ATTRIBUTED, {"a"})


def test_a_connection_that_has_ended_is_not_waited_for() -> None:
    run = Tracked({1: {A}, 2: {B, C}})
    older = run.open_early(2)
    newer = run.open("10.0.0.1", 1)
    run.settle()
    run.close(older)
    run.read(newer)
    assert run.owners(newer) == (State.ATTRIBUTED, {"a"})


def test_a_connection_that_ends_while_it_waits_is_decided() -> None:
    run = Tracked({1: {A}, 2: {B, C}})
    older = run.open_early(2)
    newer = run.open("10.0.0.1", 1)
    run.settle()
    assert run.accounting.pending_flows == 1
    run.close(newer)
    run.read(older)
    assert run.accounting.pending_flows == 0


@pytest.mark.parametrize("confirm", ["strict", "fast"])
def test_a_wait_ends_without_a_full_read(confirm: str) -> None:
    run = Tracked({1: {A}, 2: {B, C}}, confirm=confirm)
    run.open_early(2)
    newer = run.open("10.0.0.1", 1)
    run.settle()
    assert run.owners(newer)[0] is State.PENDING
    run.now += PROOF_WAIT
    run.decide()
    assert run.owners(newer) == (State.ATTRIBUTED, {"a"})


def test_a_late_proof_narrows_a_part_of_many_flows_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.attribute.narrowing.inference.REVIEWED_AT_ONCE", 10)
    run = Tracked({1: {A}, 2: {B, C}})
    idle = run.open_early(2, sends=False)
    flows = [run.open(f"10.0.0.{n % 3 + 1}", 1) for n in range(60)]
    run.settle()
    for _ in range(5):
        run.read(*flows)
    mine = [flow for flow in flows if flow.client == idle.client]
    narrowed = []
    for _ in range(4):
        run.read(*flows, idle)
        narrowed.append(sum(run.owners(flow)[0] is State.UNKNOWN for flow in [*mine, idle]))
    assert narrowed == [10, 20, 21, 21]
    assert all(run.owners(flow)[1] == {"a"} for flow in flows if flow not in mine)


@dataclass
class World:
    """Clients of one deployment each, strangers outside the networks, and what their connections were named."""

    seed: int
    undeclared: float = 0.0
    """Share of the connections that a job's own code makes to any endpoint."""
    named: int = 0
    wrong: int = 0

    def run(self) -> World:
        """60 connections, each looked at after every step."""
        draw = random.Random(self.seed)
        deployments = [named(f"d{n}") for n in range(6)]
        uses = {one: draw.sample(range(1, 9), k=draw.randint(2, 4)) for one in deployments}
        users = {port: {one for one in deployments if port in uses[one]} for port in range(1, 9)}
        clients = {f"10.0.0.{n}": draw.choice(deployments) for n in range(1, 8)}
        strangers = [f"10.9.0.{n}" for n in range(1, 4)]
        run = DataFlow(users, semantics=draw.choice(["both", "dataflow"]))
        open_flows: list[Record] = []
        for _ in range(60):
            client = draw.choice([*clients, *strangers])
            known = client in clients and draw.random() >= self.undeclared
            ports = [*uses[clients[client]], 77] if known else list(range(1, 9))
            open_flows.append(run.open(client, draw.choice(ports)))
            if len(open_flows) > 12:
                run.close(open_flows.pop(draw.randrange(len(open_flows))))
            run.now += draw.choice([0.2, 3.0])
            run.settle()
            for flow in open_flows:
                _, names = run.owners(flow)
                self.named += bool(names)
                assert not names or flow.client in clients, "a stranger is named"
                self.wrong += bool(names) and clients[flow.client].name not in names
        return self


@pytest.mark.parametrize("seed", range(12))
def test_no_wrong_name_where_the_assumption_holds(seed: int) -> None:
    world = World(seed).run()
    assert world.wrong == 0
    assert world.named > 20


def test_names_are_wrong_where_it_does_not() -> None:
    """What README says of connections that no deployment declares: it is not safe against them."""
    worlds = [World(seed, undeclared=0.1).run() for seed in range(8)]
    assert 0 < sum(world.wrong for world in worlds) < sum(world.named for world in worlds) / 5
