"""flowmap's own calls are not asked about; connections of others to the same control plane are."""

from __future__ import annotations

from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.special.addresses import OWN_REASON
from flowmap.attribute.special.own_connections import HOLD, LIMIT
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import OwnCalls
from tests.support.accounting import Auditor
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X = Owner("w", "ns", "id-x", "x")
HOST, PLANE, PORT = "10.9.0.1", "10.7.0.1", 443
CALL = Record(RecordKind.OPENED, client=HOST, client_port=4000, server=PLANE, server_port=PORT, counters=(60, 0, 1, 0))


def endpoint(ip: str, port: int) -> Endpoint:
    return Endpoint(Address.parse(ip), port)


class Calls(AttributionRun):
    """A run in which flowmap makes connections."""

    def made(self, *ports: int) -> None:
        pairs = tuple((endpoint(HOST, port), endpoint(PLANE, PORT)) for port in ports)
        self.accounting.apply(TakeStep(OwnCalls(pairs), self.now, self.now))

    def asked_about(self) -> set[str]:
        """Clients that questions are about, after everything that is due was asked."""
        questions: list[Question] = []
        while asked := self.ask():
            questions += asked
        clients = [question.source for question in questions if question.shape is Shape.CLIENT]
        return {str(client.address) for client in clients if client is not None}

    def states(self) -> list[tuple[State, str]]:
        columns = self.accounting.table.columns
        rows = sorted(self.accounting.table.live().tolist(), key=lambda row: int(columns.client_port(row)))
        found = [self.attribution.decisions.get(int(columns.verdict[row])) for row in rows]
        return [(one.state, one.reason) if one else (State.PENDING, "") for one in found]


def test_a_known_own_call_is_never_asked_about() -> None:
    run = Calls()
    run.made(4000)
    run.observe(CALL)
    run.decide()
    assert run.states() == [(State.UNKNOWN, OWN_REASON)]
    run.now += 100
    assert run.asked_about() == set()


def test_a_call_that_is_seen_before_it_is_known_waits() -> None:
    run = Calls()
    run.made(3999)
    run.observe(CALL)
    assert run.asked_about() == set(), "it may be an own call"
    run.made(4000)
    run.decide()
    assert run.states() == [(State.UNKNOWN, OWN_REASON)]
    run.now += HOLD
    assert run.asked_about() == set()


def test_other_programs_are_asked_about_a_little_later() -> None:
    run = Calls()
    run.made(4000)
    run.observe(CALL, replace(CALL, client_port=4001, id=2))
    assert run.asked_about() == set()
    assert run.attribution.next_due <= run.now + HOLD
    run.now += HOLD
    assert run.asked_about() == {HOST}
    run.decide()
    assert [state for state, _ in run.states()] == [State.UNKNOWN, State.PENDING]


def test_other_addresses_and_endpoints_do_not_wait() -> None:
    run = Calls()
    run.made(4000)
    run.observe(
        replace(CALL, client="10.9.0.2", id=2), replace(CALL, server_port=8443, id=3), replace(CALL, protocol=17, id=4)
    )
    assert run.asked_about() == {HOST, "10.9.0.2"}


def test_the_next_connection_on_the_tuple_is_not_its_own() -> None:
    run = Calls()
    run.observe(CALL)
    run.made(4000)
    run.decide()
    run.observe(replace(CALL, kind=RecordKind.CLOSED))
    run.now += 100
    run.observe(replace(CALL, id=2))
    run.now += HOLD
    assert run.asked_about() == {HOST}


def test_only_the_newest_are_remembered() -> None:
    run = Calls()
    run.made(4000)
    run.made(*range(5000, 5000 + LIMIT))
    run.observe(CALL)
    run.now += HOLD
    assert run.asked_about() == {HOST}


def test_no_byte_of_an_own_call_is_lost() -> None:
    run = Calls()
    auditor = Auditor(run.accounting)
    run.observe(CALL, replace(CALL, client_port=4001, id=2))
    run.made(4000)
    for now in (CALL, replace(CALL, kind=RecordKind.CLOSED, counters=(600, 500, 5, 5))):
        run.observe(now)
        run.decide()
        auditor.check()
    assert run.accounting.pending[0] == 60, "the other program's"
