"""Connections that get their owner from the process that opened them: when they do, and when they must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.continuity import LONGEST, Continuity
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import Decide, TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address
from flowmap.model.deployment import Owner
from flowmap.model.workload import Workload
from flowmap.sources.base import AddressesRemoved, CaughtUp, Lost, ReadFinished, ReadStarted, Step, WorkloadsNamed
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of

X, Y, Z = (Owner("", "ns", name, name) for name in "xyz")
CLIENT, CGROUP, OTHER_CGROUP = "10.0.0.1", 2, 3
EVERY = 5.0
"""Seconds between two reads of the socket table."""


@dataclass
class Connection:
    port: int
    process: int
    """Number of its workload; 0: it is not found."""
    since: float
    namespace: int = 0
    shown: int = CGROUP
    reads: int = 0
    open: bool = True
    address: str = CLIENT
    flags: int = int(Flag.PRESENT | Flag.ASSURED)


@dataclass
class World:
    """One host with a socket table that is read every few seconds, and the control plane's answers about it."""

    owner: Owner | None = X
    own_cluster: bool = True
    search: int = 1
    """Reads after which the process of a connection is found."""
    now: float = 1000.0
    last: int = 100
    """Of the numbers of processes."""
    connections: list[Connection] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.accounting = accounting_for(AttributionSettings(namespaces=("ns",), **self.config), max_flows=200)  # type: ignore[arg-type]
        groups = [(one, Workload(f"/{one}", cgroup_id=one)) for one in (CGROUP, OTHER_CGROUP)]
        self.take(ReadStarted("start"), ReadFinished(True), CaughtUp(self.now), WorkloadsNamed(tuple(groups)))

    @property
    def continuity(self) -> Continuity:
        return self.accounting.attribution.continuity

    def take(self, *steps: Step) -> None:
        for step in steps:
            self.accounting.apply(TakeStep(step, self.now, self.now - 0.01))

    def process(self, *, pid: int = 7, began: int = 1, cgroup: int = CGROUP) -> int:
        """A process that sockets can be found to be of."""
        self.last += 1
        self.take(WorkloadsNamed(((self.last, Workload("/c", pid=pid, cgroup_id=cgroup, process_began=began)),)))
        return self.last

    def open(self, process: int, **details: object) -> Connection:
        connection = Connection(40_000 + len(self.connections), process, self.now, **details)  # type: ignore[arg-type]
        self.connections.append(connection)
        return connection

    def close(self, connection: Connection) -> None:
        connection.open = False
        self.take(batch_of(self._record(connection, RecordKind.CLOSED)))

    def read(self, seconds: float = EVERY) -> None:
        """Time passes, and the socket table is read."""
        self.now += seconds
        live = [one for one in self.connections if one.open]
        for one in live:
            one.reads += 1
            if one.reads > self.search and one.process:
                one.shown = one.process
        records = [self._record(one, RecordKind.DUMPED) for one in live]
        self.take(ReadStarted("timer"), *([batch_of(*records)] if records else []), ReadFinished(True))
        self.take(CaughtUp(self.now))
        self.decide()

    def answer(self, *shapes: Shape) -> list[Question]:
        """Ask what is due, and answer it; without shapes all of it."""
        asked = self.accounting.attribution.ask(now=self.now, limit=20)
        for question in asked:
            owners = {Shape.CLIENT: (self.owner,), Shape.SINK: (X, Y, Z)}.get(question.shape, ())
            found = frozenset(owner for owner in owners if owner is not None)
            alone = found if self.own_cluster else frozenset[Owner]()
            self.accounting.attribution.receive(question, Answer(self.now, self.now + 0.1, found), None, alone)
        self.now += 0.2
        self.read(0.2)
        return asked

    def decide(self) -> None:
        for _ in range(3):  # what one turn decides can begin a line, which the next one uses
            self.accounting.apply(Decide(self.now))

    def named(self, connection: Connection) -> tuple[str, str]:
        """The owner of an open connection, and the rule of the answers about its client."""
        columns, table = self.accounting.table.columns, self.accounting.table
        ports = columns.client_port(table.live()).tolist()
        for row, port in zip(table.live().tolist(), ports, strict=True):
            decision = self.accounting.attribution.decisions.get(int(columns.verdict[row]))
            if port == connection.port and decision is not None and decision.owners:
                (owner,) = decision.owners
                rules = {one.rule for question, one in decision.outcomes.items() if question.shape is Shape.CLIENT}
                return owner.name, "+".join(sorted(rules))
        return "", ""

    def _record(self, one: Connection, kind: RecordKind) -> Record:
        life = int(self.now - one.since)
        return Record(
            kind, one.address, one.port, id=one.port, counters=(100 + life, 100, 2 + life, 2), flags=one.flags,
            workloads=(one.shown, 0), namespace=one.namespace,
        )  # fmt: skip


def begun(**details: object) -> tuple[World, int, Connection]:
    """A world in which one process has had a connection that an answer named."""
    world = World(**details)  # type: ignore[arg-type]
    process = world.process()
    first = world.open(process)
    for _ in range(3):
        world.read()
        world.answer()
    assert world.named(first) == ("x", "inside")
    return world, process, first


def test_a_new_connection_of_the_process_needs_no_answer() -> None:
    world, process, _ = begun()
    second = world.open(process)
    world.read()
    assert world.named(second) == ("", ""), "its process is not known yet"
    world.read()
    assert world.named(second) == ("x", "continuity")
    assert (len(world.continuity), world.continuity.named) == (1, 1)


def test_an_answer_that_comes_first_decides() -> None:
    world, process, _ = begun()
    second = world.open(process)
    world.read()
    world.answer()
    world.read()
    assert world.named(second) == ("x", "inside")


def test_the_line_goes_on_from_connection_to_connection() -> None:
    world, process, before = begun()
    for _ in range(30):
        following = world.open(process)
        world.read()
        world.close(before)
        world.read()
        assert world.named(following) == ("x", "continuity")
        before = following


BREAKS: dict[str, Callable[[World, int, Connection], object]] = {
    "another process": lambda world, one, first: world.open(world.process(pid=8)),
    "the same pid, started later": lambda world, one, first: world.open(world.process(began=2)),
    "another cgroup": lambda world, one, first: world.open(world.process(cgroup=OTHER_CGROUP)),
    "a process that is not found": lambda world, one, first: world.open(0),
    "another network namespace": lambda world, one, first: world.open(one, namespace=1),
    "an address that was taken off": lambda world, one, first: world.take(AddressesRemoved((Address.parse(CLIENT),))),
    "lost notifications of addresses": lambda world, one, first: world.take(AddressesRemoved(None)),
    "lost changes": lambda world, one, first: world.take(Lost("overrun")),
    "a source that was opened again": lambda world, one, first: world.take(ReadStarted("start"), ReadFinished(True)),
}


@pytest.mark.parametrize("what", BREAKS)
def test_anything_else_ends_the_line(what: str) -> None:
    world, process, first = begun()
    BREAKS[what](world, process, first)
    world.read()
    second = world.open(process)
    world.read()
    world.read()
    world.read()
    assert world.named(second) == ("", "")


def test_other_addresses_do_not_matter() -> None:
    world, process, _ = begun()
    world.take(AddressesRemoved((Address.parse("10.0.0.9"),)))
    world.open(world.process(pid=8), address="10.0.0.9")
    second = world.open(process)
    world.read()
    world.read()
    assert world.named(second) == ("x", "continuity")


def test_a_short_connection_whose_process_was_never_found_ends_the_line() -> None:
    world, process, _ = begun()
    short = world.open(process)
    world.close(short)  # its final record is the first that is seen of it
    second = world.open(process)
    world.read()
    world.read()
    assert world.named(second) == ("", "")


def test_a_gap_ends_the_line() -> None:
    world, process, first = begun()
    world.close(first)
    world.read()
    second = world.open(process)
    world.read()
    world.read()
    assert world.named(second) == ("", "")


@pytest.mark.parametrize("owner", [None, Y])
def test_an_answer_that_names_another_owner_ends_the_line(owner: Owner | None) -> None:
    world, process, _ = begun()
    world.owner = owner
    world.read(LONGEST + 100)
    assert world.answer()
    second = world.open(process)
    world.read()
    world.read()
    assert world.named(second)[1] != "continuity"
    world.owner = X
    world.read(100)
    world.answer()  # the process has not had one owner only: never again
    third = world.open(process)
    world.read()
    world.read()
    assert world.named(third)[1] != "continuity"


@pytest.mark.parametrize(
    "details",
    [{"own_cluster": False}, {"config": {"one_deployment_per_client": False}}],
    ids=["session cluster", "switched off"],
)
def test_there_is_no_line_where_a_process_may_serve_several(details: dict[str, object]) -> None:
    world, process, _ = begun(**details)
    second = world.open(process)
    world.read()
    world.read()
    assert world.named(second) == ("", "")


def test_a_line_begins_only_with_a_connection_that_was_named_for_certain() -> None:
    """A program of the host that is older than its TaskManager: its connections are nobody's, for all the answers."""
    world = World(owner=None, config={"registration_lag": 4.0})
    process = world.process()
    old = world.open(process)
    for _ in range(3):
        world.read()
        world.answer()
    world.owner = X
    for _ in range(3):
        world.read(40)
        world.answer()
    assert world.named(old) == ("", "")
    second = world.open(process)
    world.read()
    world.read()
    assert world.named(second) == ("", "")


def test_a_client_with_a_line_is_not_asked_about_again_by_time() -> None:
    world, process, first = begun()
    asked, began = 0, world.now
    while world.now < began + 500:
        world.read()
        asked += sum(question.shape is Shape.CLIENT for question in world.answer())
    assert asked == 0 and world.continuity.spared >= 7
    while world.now < began + LONGEST + 130:
        world.read()
        asked += sum(question.shape is Shape.CLIENT for question in world.answer())
    assert asked == 1, "now and then it is"
    world.open(0)
    world.read()
    assert any(question.shape is Shape.CLIENT for question in world.answer())
    world.close(first)


STEPS = st.lists(
    st.one_of(
        *(st.just(("read",)) for _ in range(5)),
        *(st.just(("answer",)) for _ in range(3)),
        *(st.tuples(st.just("begin"), st.integers(least, 9)) for least in (0, 1, 1, 1)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("hand_over"), st.sampled_from([X, Y, Z, None])),
        *(st.just((name,)) for name in ("restart", "leave_behind", "take_off", "lose", "short")),
    ),
    min_size=20,
    max_size=80,
)


class Owners(World):
    """Owners come and go, each with a process of its own; nothing says when, and some processes are never found."""

    def __init__(self, search: int) -> None:
        super().__init__(search=search)
        self.truth: dict[int, Owner | None] = {}
        self._of_owner: dict[Owner | None, int] = {}

    def begin(self, found: int) -> Connection:
        """A connection of the owner; ``found``: 0 if its process never is."""
        one = self.open(self._process() if found else 0)
        self.truth[one.port] = self.owner
        return one

    def short(self) -> None:
        self.close(self.begin(1))

    def end(self, which: int) -> None:
        live = [one for one in self.connections if one.open]
        if live:
            self.close(live[which % len(live)])

    def end_all(self) -> None:
        for one in self.connections:
            if one.open:
                self.close(one)

    def hand_over(self, owner: Owner | None) -> None:
        """All connections of the former owner end. The next one comes with a new process."""
        if owner != self.owner:
            self.end_all()
            self._of_owner.pop(owner, None)
            self.owner = owner

    def leave_behind(self) -> None:
        """The next owner comes, and connections of the former one stay open: those that have their name. The others
        would get the next owner's by rule ``inside``, which takes a socket that is there for a client that exists."""
        for one in self.connections:
            if one.open and not self.named(one)[0]:
                self.close(one)
        following: dict[Owner | None, Owner | None] = {X: Y, Y: Z, Z: None, None: X}
        self.owner = following[self.owner]
        self._of_owner.pop(self.owner, None)

    def restart(self) -> None:
        self.end_all()
        self._of_owner.pop(self.owner, None)

    def take_off(self) -> None:
        self.take(AddressesRemoved((Address.parse(CLIENT),)))

    def lose(self) -> None:
        self.take(Lost("overrun"))

    def _process(self) -> int:
        if self.owner not in self._of_owner:
            self._of_owner[self.owner] = self.process(pid=10, began=1 + self.last)
        return self._of_owner[self.owner]


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 3))
def test_no_connection_gets_the_name_of_another_owner(steps: list[tuple[object, ...]], search: int) -> None:
    world = Owners(search)
    for name, *arguments in steps:
        getattr(world, str(name))(*arguments)
        for one in world.connections:
            owner, rule = world.named(one)
            if "continuity" in rule:
                true = world.truth[one.port]
                assert true is not None and owner == true.name, one
