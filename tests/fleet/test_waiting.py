"""What a host reports of its questions, and which it asks first without a server."""

from __future__ import annotations

import pytest

from flowmap.fleet.requests import Kind, Request
from flowmap.fleet.waiting import REPORT_AGAIN, REPORTED, SPARE, Waiting
from flowmap.model.address import Address, Endpoint


def client(number: int) -> Request:
    return Request(Kind.OWNERS, "w", "n", Endpoint(Address.parse(f"10.0.{number >> 8}.{number & 255}"), 0))


LINK = Request(Kind.OWNERS, "w", "n", client(1).source, Endpoint(Address.parse("10.1.0.1"), 9092))
JOBS = Request(Kind.JOBS, "w", "n", detail="d-1")


def waiting_for(*requests: Request) -> Waiting:
    waiting = Waiting()
    for number, request in enumerate(requests):
        waiting.add(request, request.text(), float(number))
    return waiting


def test_a_question_is_reported_once_then_again_so_that_the_server_keeps_it() -> None:
    waiting = waiting_for(client(1))
    (report,) = waiting.reports(0.0)
    assert (report.question, report.more, report.since) == (client(1).text(), 0.0, 0.0)
    assert waiting.reports(REPORT_AGAIN - 1) == []
    assert len(waiting.reports(REPORT_AGAIN)) == 1


def test_growing_traffic_is_reported_as_its_growth() -> None:
    waiting = waiting_for(client(1), client(2))
    waiting.set_traffic({client(1): 100.0, client(2): 0.0})
    assert {report.question: report.more for report in waiting.reports(0.0)} == {
        client(1).text(): 100.0,
        client(2).text(): 0.0,
    }
    waiting.set_traffic({client(1): 150.0, client(2): 1.0})
    assert [(one.question, one.more) for one in waiting.reports(1.0)] == [(client(2).text(), 1.0)]
    waiting.set_traffic({client(1): 300.0, client(2): 1.0})
    assert [(one.question, one.more) for one in waiting.reports(2.0)] == [(client(1).text(), 200.0)]


@pytest.mark.parametrize(
    ("request_", "traffic", "more", "delay"),
    [
        (client(1), 5.0, 5.0, "0"),
        (client(1), 0.0, 0.0, "1000000.0"),
        (LINK, 0.0, SPARE, ""),
        (LINK, 1e18, 1e18, "0"),  # a user waits for it
        (JOBS, None, 0.0, "30.0"),
    ],
)
def test_the_place_in_the_queue(request_: Request, traffic: float | None, more: float, delay: str) -> None:
    waiting = waiting_for(request_)
    waiting.set_traffic({} if traffic is None else {request_: traffic})
    (report,) = waiting.reports(0.0)
    assert (report.more, report.delay) == (more, delay)


def test_traffic_that_was_reported_before_counts_from_the_beginning() -> None:
    waiting = Waiting()
    waiting.set_traffic({client(1): 9.0})
    waiting.add(client(1), client(1).text(), 0.0)
    assert waiting.reports(0.0)[0].more == 9.0


def test_questions_that_no_flow_needs_are_named() -> None:
    waiting = waiting_for(client(1), client(2), JOBS)
    assert [want.request for want in waiting.set_traffic({client(1): 1.0}).gone] == [client(2)]


def test_only_flows_make_a_question_hurry() -> None:
    waiting = Waiting()
    waiting.set_traffic({client(1): 0.0, client(2): 5.0})
    hurries = {number: waiting.add(client(number), client(number).text(), 0.0).hurries for number in (1, 2, 3)}
    assert hurries == {1: False, 2: True, 3: True}, "of the third nothing is known"
    assert waiting.add(JOBS, JOBS.text(), 0.0).hurries
    for traffic, hurry in (((0, 5, 0), False), ((1, 5, 0), True), ((2, 6, 0), False), ((2, 0, 1), True)):
        report = {client(number): float(amount) for number, amount in enumerate(traffic, 1)}
        assert waiting.set_traffic(report).hurry is hurry, traffic


def test_a_new_state_of_the_server_gets_everything_again() -> None:
    waiting = waiting_for(client(1), client(2))
    waiting.set_traffic({client(1): 7.0, client(2): 0.0})
    waiting.note_stored(client(1).text(), 55.0)
    assert waiting.reports(0.0)[0].since == 55.0
    waiting.report_anew()
    again = waiting.reports(0.0)
    assert [(one.question, one.more, one.since) for one in again] == [
        (client(1).text(), 7.0, 0.0),
        (client(2).text(), 0.0, 0.0),
    ]


def test_an_answer_that_is_known_is_not_wanted_twice() -> None:
    waiting = waiting_for()
    waiting.note_stored(client(1).text(), 55.0)
    waiting.note_stored(client(1).text(), 50.0)
    waiting.add(client(1), client(1).text(), 0.0)
    assert waiting.reports(0.0)[0].since == 55.0


def test_the_largest_traffic_is_reported_first_and_at_most_so_much() -> None:
    requests = [client(number) for number in range(REPORTED + 5)]
    waiting = waiting_for(*requests)
    waiting.set_traffic({request: float(number) for number, request in enumerate(requests)})
    first, second = waiting.reports(0.0), waiting.reports(0.0)
    assert (len(first), len(second)) == (REPORTED, 5)
    assert first[0].question == requests[-1].text() and second[-1].question == requests[0].text()


def test_questions_for_this_host_alone_are_not_reported() -> None:
    waiting = waiting_for(client(1), client(2))
    want = waiting.get(client(1))
    assert want is not None
    waiting.leave_alone(want)
    assert [report.question for report in waiting.reports(0.0)] == [client(2).text()]
    assert (waiting.alone(()), waiting.alone([client(1)])) == (1, 0) and waiting.named(client(1).text()) is None
    assert waiting.best((), alone=True) is want
    assert waiting.best([client(1)], alone=True) is None
    waiting.remove(client(1))
    assert (waiting.alone(()), len(waiting)) == (0, 1)


def test_without_a_server_every_fourth_call_goes_to_the_longest_waiting() -> None:
    requests = [client(number) for number in range(10)]
    waiting = waiting_for(*requests)
    waiting.set_traffic({request: 1.0 + number for number, request in enumerate(requests)})
    order = []
    while len(waiting):
        best = waiting.best(())
        assert best is not None
        order.append(requests.index(best.request))
        waiting.remove(best.request)
    assert order == [9, 8, 7, 0, 6, 5, 4, 1, 3, 2]


def test_narrowing_comes_last() -> None:
    waiting = waiting_for(LINK, JOBS, client(3))
    waiting.set_traffic({LINK: 0.0, client(3): 0.0})
    order = []
    while len(waiting):
        best = waiting.best(())
        assert best is not None
        order.append(best.request)
        waiting.remove(best.request)
    assert order[-1] == LINK
