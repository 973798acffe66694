"""What the engine reports to the fleet: every charged question under way, with the traffic that waits for it."""

from __future__ import annotations

from flowmap.attribute.questions import FLINK_PLACE, Question, Shape, question_for
from flowmap.engine.waiting_report import EVERY, URGENT, Traffic, WaitingReport
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address, Endpoint
from tests.support.attribution import AttributionRun
from tests.support.records import Record

OPEN = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(100, 20, 1, 1))


def asked() -> tuple[AttributionRun, list[Question]]:
    run = AttributionRun()
    run.observe(OPEN)
    return run, run.ask()


def test_pending_traffic_of_questions_under_way() -> None:
    run, questions = asked()
    client = next(question for question in questions if question.shape is Shape.CLIENT)
    elsewhere = question_for("ns", Shape.CLIENT, EndpointKey(Address.parse("192.0.2.1"), 0, 6, False))
    link = Question("ns", Shape.LINK, Endpoint(Address.parse("192.0.2.1"), 0), Endpoint(Address.parse("192.0.2.2"), 9))
    pending = run.attribution.pending_traffic([*questions, elsewhere, link])
    assert pending[client] == 121.0  # the bytes of the flow, and one as a flow waits
    assert pending[link] == 0.0 and elsewhere not in pending
    run.answer(client)
    assert client not in run.attribution.pending_traffic(questions)


def test_reports_are_spaced_and_end_with_an_empty_one() -> None:
    run, questions = asked()
    reports: list[Traffic] = []
    report = WaitingReport(run.attribution, reports.append, cpu=lambda: 0.0)
    assert report(0.0, [], []) == 0
    assert report(1.0, questions, []) == len(questions), "a flow waits for all of them"
    report(1.0 + EVERY / 2, questions, [])
    assert [len(one) for one in reports] == [len(questions)]
    report(1.0 + EVERY / 2, questions, [], True)  # some have begun
    report(2.0, [], [])
    report(3.0, [], [])
    assert [len(one) for one in reports] == [len(questions), len(questions), 0]


def test_reports_take_a_twentieth_of_a_core_at_most() -> None:
    run, questions = asked()
    reports: list[Traffic] = []
    used = iter([0.0, 1.0, 1.0, 2.0])
    report = WaitingReport(run.attribution, reports.append, cpu=lambda: next(used))
    for now, expected in ((0.0, 1), (19.0, 1), (20.0, 2)):
        report(now, questions, [], True)
        assert len(reports) == expected


def test_questions_of_users_come_first_and_free_ones_are_left_out() -> None:
    run, questions = asked()
    reports: list[Traffic] = []
    report = WaitingReport(run.attribution, reports.append, cpu=lambda: 0.0)
    user = question_for("ns", Shape.CLIENT, EndpointKey(Address.parse("192.0.2.7"), 0, 6, False))
    free = question_for(FLINK_PLACE, Shape.CLIENT, EndpointKey(Address.parse("192.0.2.8"), 0, 6, False))
    report(0.0, [*questions, user, free], [user])
    (one,) = reports
    assert one[user.workspace, user.namespace, user.source, user.destination] == URGENT
    assert (free.workspace, free.namespace, free.source, free.destination) not in one
