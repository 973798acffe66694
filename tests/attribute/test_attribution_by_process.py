"""TaskManagers that share an address and a cgroup with each other and with other programs: the process decides."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from flowmap.attribute.answers.tenures import LOCAL_WAIT
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import FLINK, Owner, Role, State
from flowmap.model.tenure import Holders, LocalProcess, Tenure
from flowmap.model.views import FlowFilter
from flowmap.model.workload import Workload
from flowmap.query.live import LiveQueries
from flowmap.sources.base import WorkloadsNamed
from tests.support.attribution import AttributionRun
from tests.support.records import Record

HOST, CGROUP = "10.0.0.5", 50
PROCESSES = {"left": frozenset((100, 101)), "right": frozenset((200,)), "third": frozenset((300,))}
"""The processes of each TaskManager, which runs the job of that name."""
UNTOLD, ELSEWHERE = 0, 60
MIXED, OTHER_CGROUP = 2, 3
"""Numbers of the workloads that sockets have before their process is found; that of process N is N."""
NAMED = {
    MIXED: Workload("/flink", cgroup_id=CGROUP),
    OTHER_CGROUP: Workload("/cron", cgroup_id=ELSEWHERE),
    **{pid: Workload("/flink", pid=pid, command="java", cgroup_id=CGROUP) for pid in (100, 101, 200, 300, 400)},
}


class SharedHost(AttributionRun):
    """Flows from one address, by the port of their client."""

    def __init__(self) -> None:
        super().__init__(AttributionSettings(namespaces=(), flink=True, positive_ttl=3600.0))
        self.accounting.apply(TakeStep(WorkloadsNamed(tuple(NAMED.items())), self.now, self.now))
        self.known: Mapping[str, frozenset[int]] = PROCESSES

    def open(self, *ports: int) -> None:
        self.observe(*(Record(RecordKind.OPENED, HOST, port, counters=(70, 30, 1, 1)) for port in ports))

    def sockets(self, workloads: Mapping[int, int]) -> None:
        """A read of the socket table shows the workload of each port."""
        kind = RecordKind.MEASURED
        self.observe(*(Record(kind, HOST, port, id=0, workloads=(told, 0)) for port, told in workloads.items()))

    def read(self) -> list[Shape]:
        """A reading of the cluster answers what is asked; returns that."""
        asked = self.ask(limit=0)
        self.now += 2
        for question in asked:
            tenures = _tenures(self.now) if question.shape is Shape.CLIENT else ()
            local = (LocalProcess(name, CGROUP, -math.inf, math.inf, pids) for name, pids in self.known.items())
            holders = Holders(tenures, 0.0, self.now, tuple(local) if tenures else ())
            owners = frozenset(tenure.owner for tenure in tenures)
            self.attribution.receive(question, Answer(self.now, self.now + 0.25, owners), holders)
        self.decide()
        return [question.shape for question in asked]

    def pass_time(self, seconds: float) -> None:
        """Readings go by, in which the sockets of open flows are not told any better."""
        end = self.now + seconds
        while self.now < end:
            self.read()

    def names(self) -> dict[int, str]:
        """By client port the names of the owners, or the state without one."""
        page = LiveQueries(self.accounting, source="test", epoch=0.0).flows(FlowFilter(), 20, None)
        return {
            flow.client.port: "+".join(sorted(one.owner.name for one in flow.deployments)) or flow.state
            for flow in page.flows
        }


def _tenures(now: float) -> tuple[Tenure, ...]:
    jobs = (Tenure(Owner(FLINK, "prod", name, name), -math.inf, 0.0, now, process=name) for name in PROCESSES)
    return (*jobs, Tenure(Role.HOST.of("prod"), -math.inf, 0.0, now))


def test_each_process_has_its_own_connections() -> None:
    host = SharedHost()
    host.open(1, 2, 3, 4, 5)
    host.sockets({1: 100, 2: 101, 3: 200, 4: 300, 5: OTHER_CGROUP})
    host.read()
    assert host.names() == {1: "left", 2: "left", 3: "right", 4: "third", 5: State.UNKNOWN}


def test_a_program_beside_them_has_no_job() -> None:
    host = SharedHost()
    host.open(1)
    host.sockets({1: 400})
    host.read()
    assert host.names() == {1: State.UNKNOWN}


@pytest.mark.parametrize("known", [{}, dict.fromkeys(PROCESSES, frozenset[int]())])
def test_nothing_is_named_where_processes_are_not_known(known: Mapping[str, frozenset[int]]) -> None:
    host = SharedHost()
    host.known = known
    host.open(1, 2)
    host.sockets({1: 100, 2: MIXED})
    host.pass_time(LOCAL_WAIT + 1)
    assert host.names() == {1: State.UNKNOWN, 2: State.UNKNOWN}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param({1: 100, 2: 200, 3: 400}, {1: "left", 2: "right", 3: State.UNKNOWN}, id="each process"),
        pytest.param({1: 100}, {1: "left", 2: State.UNKNOWN, 3: State.UNKNOWN}, id="one of them"),
        pytest.param({1: OTHER_CGROUP}, dict.fromkeys((1, 2, 3), State.UNKNOWN), id="sockets that contradict"),
    ],
)
@pytest.mark.parametrize("first", [MIXED, UNTOLD], ids=["cgroup at once", "nothing at once"])
def test_a_process_that_is_found_late_names_its_connections_with_the_next_reading(
    first: int, found: Mapping[int, int], expected: Mapping[int, str]
) -> None:
    host = SharedHost()
    host.open(1, 2, 3)
    host.sockets(dict.fromkeys((1, 2, 3), first))
    host.pass_time(LOCAL_WAIT / 2)
    assert set(host.names().values()) == {State.PENDING}
    host.pass_time(LOCAL_WAIT)
    assert set(host.names().values()) == {State.UNKNOWN}
    assert host.read() == []  # no question is due
    host.sockets(found)
    assert host.read() == [Shape.CLIENT]
    assert host.names() == expected
    totals = host.accounting.series_table.totals()
    assert sum(map(sum, totals)) == sum(host.accounting.observed) == 300
    assert host.read() == []


def test_a_process_that_holds_nothing_undecided_asks_nothing() -> None:
    host = SharedHost()
    host.open(1)
    host.sockets({1: 100})
    host.read()
    host.sockets({1: 101})  # passed to a child
    assert host.read() == []
    assert host.names() == {1: "left"}
