"""The writer's thread: a real thread, with a source and a control plane that tests play."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.engine.commands import Ask, Command, TakeStep
from flowmap.engine.engine import MAX_REQUESTS, MAX_URGENT
from flowmap.errors import QueryError, SourceError
from flowmap.export.series import SeriesKey
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.accounting import Auditor
from tests.support.records import Record, batch_of, replace
from tests.support.running_engine import READ, Running
from tests.support.scripted_source import until

X = Owner("w", "ns", "x", "x")
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    if made.engine.is_alive():
        made.stop()
    made.source.free()
    assert made.engine.failure is None


def question(n: int) -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address(0, n), 0), None)


def test_bytes_become_traffic_of_their_deployment(running: Running) -> None:
    running.resolver.answers = lambda question: (X,) if question.shape is not Shape.HOST else ()
    running.start()
    running.source.hand(batch_of(FLOW), batch_of(replace(FLOW, kind=RecordKind.DUMPED, counters=(100, 50, 1, 1))))
    until(lambda: running.engine.answers >= 4, "four answers")
    running.catch_up()
    until(lambda: running.engine.snapshot.series_table.totals().deployment == (100, 50), "the bytes have an owner")
    assert running.engine.snapshot.conserved()
    assert {one.shape for one in running.resolver.all} == {Shape.CLIENT, Shape.SINK, Shape.SOURCE, Shape.HOST}
    assert len(running.resolver.all) == 4, "what was answered is not asked again before its time"


def test_engine_before_its_first_turn_does_not_hang(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    monkeypatch.setattr(running.engine, "_turn", lambda: time.sleep(0.001))
    running.start()
    assert began <= running.engine.beat <= time.monotonic()


def test_the_last_counters_are_taken_at_the_end(running: Running) -> None:
    running.start()
    until(lambda: running.accounting.complete_reads, "the first read")
    running.source.script.append(batch_of(FLOW, replace(FLOW, kind=RecordKind.CLOSED, counters=(7, 8, 1, 1))))
    last = running.stop()
    assert (last.observed_transmit_bytes, last.pending_receive_bytes) == (7, 8)
    assert running.source.closed == 1
    Auditor(running.accounting).check()


def test_failed_source_is_reopened_without_double_count(running: Running) -> None:
    running.start()
    running.source.hand(batch_of(replace(FLOW, counters=(10, 10, 1, 1))))
    until(lambda: running.engine.snapshot.observed_transmit_bytes == 10, "the first bytes")
    running.source.hand(ReadStarted("timer"), SourceError("the kernel said no"))
    until(lambda: running.engine.source_error, "the failure shows")
    assert running.engine.source_error == "the kernel said no"
    assert not running.source.stats.up
    seen = batch_of(replace(FLOW, kind=RecordKind.DUMPED, counters=(25, 10, 1, 1)))
    running.source.hand(ReadStarted("start"), seen, ReadFinished(True))
    until(lambda: running.engine.snapshot.observed_transmit_bytes == 25, "it goes on after a second")
    assert running.source.opened == 2
    until(lambda: running.engine.source_error is None, "no error is left")


def test_the_pause_grows_while_a_source_cannot_be_opened() -> None:
    clock = [1000.0]
    running = Running(clock=lambda: clock[0])

    def refused(after: float) -> int:
        """How often the source has refused, so many seconds later."""
        clock[0] += after
        for _ in range(2):  # the turn under way may have begun before
            running.engine.call(lambda: None).result(10)
        return 6 - running.source.refuses

    running.source.refuses = 6
    running.source.hand(SourceError("gone"))
    running.engine.start()
    until(lambda: running.engine.source_error == "gone", "the failure shows")
    assert [(refused(pause - 0.5), refused(0.5)) for pause in (1, 2, 4, 8, 16, 32)] == [(n, n + 1) for n in range(6)]
    assert (refused(59.5), running.source.stats.up) == (6, False), "a minute is the longest pause"
    assert (refused(0.5), running.source.stats.up) == (6, True)
    running.stop()
    running.source.free()


def test_who_asks_is_told_what_was_read_for_it(running: Running) -> None:
    """Not what was read before: on the same ports there may be another connection by now."""
    running.start()
    for n in range(1, 6):
        running.source.hand(batch_of(replace(FLOW, client_port=n, id=n)))
        time.sleep(0.03)  # longer than FRESH, and within the time in which changes may gather
        assert running.engine.call(lambda: running.accounting.table.open_flows).result(5) == n


def test_requests_are_served_between_the_steps_of_a_long_read(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowmap.engine.engine.FRESH", 0.0)
    found: list[int] = []
    asked = threading.Event()

    def ask() -> None:
        future = running.engine.call(lambda: running.accounting.table.open_flows)
        future.add_done_callback(lambda done: found.append(done.result()))
        asked.set()

    batches = [batch_of(replace(FLOW, client_port=n, id=n)) for n in range(1, 4)]
    running.source.hand(*READ, batches[0], ask, batches[1], batches[2])
    running.engine.start()
    until(lambda: found, "the answer")
    assert found == [2], "after the second batch, before the third"


def test_an_error_of_a_request_is_the_callers(running: Running) -> None:
    running.start()
    with pytest.raises(ZeroDivisionError):
        running.engine.call(lambda: 1 // 0).result(5)
    assert running.engine.call(lambda: 5).result(5) == 5


def test_requests_are_bounded_and_a_cancelled_one_is_not_run(running: Running) -> None:
    ran: list[int] = []
    futures = [running.engine.call(lambda: ran.append(1)) for _ in range(MAX_REQUESTS)]
    with pytest.raises(QueryError, match="too many"):
        running.engine.call(lambda: None)
    futures[0].cancel()
    running.start()
    futures[-1].result(5)
    assert len(ran) == MAX_REQUESTS - 1
    with pytest.raises(CancelledError):
        futures[0].result()


def test_the_budget_is_kept(running: Running) -> None:
    running.budget.__init__(rate=0.001, burst=5, max_in_flight=2)  # type: ignore[misc]
    running.start()
    flows = [replace(FLOW, client=f"10.0.0.{n}", id=n) for n in range(1, 30)]
    running.source.hand(batch_of(*flows))
    until(lambda: len(running.resolver.waiting) == 2, "two calls are under way")
    for _ in range(3):
        until(lambda: running.resolver.waiting, "a call")
        running.resolver.answer(next(iter(running.resolver.waiting)))
    until(lambda: len(running.resolver.all) == 5, "as many calls as the burst allows")
    running.engine.call(lambda: None).result(5)
    assert (len(running.resolver.all), running.resolver.most) == (5, 2)
    assert running.engine.questions_waiting > 0


def test_a_question_of_a_user_comes_before_those_that_wait(running: Running) -> None:
    running.budget.__init__(rate=1000.0, burst=10, max_in_flight=1)  # type: ignore[misc]
    running.start()
    flows = [replace(FLOW, client=f"10.0.0.{n}", id=n) for n in range(1, 30)]
    running.source.hand(batch_of(*flows))
    until(lambda: running.resolver.waiting, "the first call")
    done = running.engine.call(lambda: running.engine.ask_now(question(99))).result(5)
    for _ in range(2):
        until(lambda: running.resolver.waiting, "a call")
        running.resolver.answer(next(iter(running.resolver.waiting)), X)
    until(lambda: running.resolver.waiting, "a call")
    assert question(99) in running.resolver.all[:3]
    if question(99) in running.resolver.waiting:
        running.resolver.answer(question(99), X)
    done.result(5)


def test_users_and_plan_take_turns_and_users_are_bounded(running: Running) -> None:
    running.budget.__init__(rate=1000.0, burst=1, max_in_flight=1)  # type: ignore[misc]
    running.start()
    flows = [replace(FLOW, client=f"10.0.0.{n}", id=n) for n in range(1, 30)]
    running.source.hand(batch_of(*flows))
    until(lambda: running.resolver.waiting, "the first call")

    def flood() -> int:
        for n in range(1000, 2000):
            try:
                running.engine.ask_now(question(n))
            except QueryError:
                return n - 1000
        return 1000

    assert running.engine.call(flood).result(5) <= MAX_URGENT + 1

    def of_plan() -> int:
        return sum(one.shape is not Shape.CLIENT or one.source.address.low > 5000 for one in running.resolver.all)  # type: ignore[union-attr]

    before, answered = of_plan(), 0
    while of_plan() < before + 3:
        until(lambda: running.resolver.waiting, "a call")
        running.resolver.answer(next(iter(running.resolver.waiting)))
        answered += 1
        assert answered < 2000, "the plan never has its turn"
        if not answered % 5:
            running.engine.call(flood).result(5)


def test_one_question_serves_everybody_who_asks_it(running: Running) -> None:
    running.start()
    waits = running.engine.call(lambda: [running.engine.ask_now(question(1)) for _ in range(5)]).result(5)
    until(lambda: running.resolver.waiting, "the call")
    waits.append(running.engine.call(lambda: running.engine.ask_now(question(1))).result(5))
    running.resolver.fail(question(1))
    for wait in waits:
        wait.result(5)
    assert running.resolver.all == [question(1)]
    assert running.engine.last_failure == "timeout: late"


def test_a_failed_question_is_asked_again(running: Running) -> None:
    running.start()
    running.source.hand(batch_of(FLOW))
    until(lambda: len(running.resolver.waiting) == 3, "three questions")
    for one in list(running.resolver.waiting):
        running.resolver.fail(one)
    until(lambda: len(running.resolver.all) >= 6, "they are asked again")


def test_a_defect_ends_the_thread_and_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    made = Running()

    def broken() -> None:
        raise RuntimeError("defect")

    made.source.hand(*READ, broken)
    made.engine.start()
    made.engine.join(10)
    assert isinstance(made.engine.failure, RuntimeError)
    assert made.source.closed == 1
    made.source.free()


def test_what_a_step_holds_may_be_as_old_as_its_poll() -> None:
    # Sources read ahead, and netlink fills the next part of a dump while it hands out the one before.
    moments: list[tuple[float, float]] = []
    clock = itertools.count(100)

    def apply(command: Command) -> Sequence[Question]:
        if isinstance(command, TakeStep):
            moments.append((command.read_at, command.now))
        return ()

    running = Running(apply=apply, clock=lambda: float(next(clock)))
    running.source.hand(*[FlowBatch(0) for _ in range(4)])
    running.engine.start()
    until(lambda: len(moments) == 4, "all steps")
    running.stop()
    running.source.free()
    assert len({read_at for read_at, _ in moments}) == 1, "all are as old as the start of the poll"
    read_at, times = moments[0][0], [now for _, now in moments]
    assert read_at < times[0] and times == sorted(set(times))


def test_waiting_for_a_processor_makes_questions_no_rarer() -> None:
    asked: list[float] = []
    clock = [1000.0]

    def tick() -> float:
        clock[0] += 0.01
        return clock[0]

    def apply(command: Command) -> Sequence[Question]:
        if isinstance(command, Ask):
            asked.append(clock[0])
            clock[0] += 1.0  # another process had the processor
        return ()

    running = Running(apply=apply, clock=tick, cpu=lambda: 0.0)
    running.engine.start()
    for _ in range(30):
        running.engine.call(lambda: None).result(10)  # one turn
    running.stop()
    running.source.free()
    assert len(asked) > 5, "questions are chosen again and again"


def test_a_short_idle_time_tidies_more_often(running: Running) -> None:
    running.accounting.series_table.idle_after = 0.4
    row = running.accounting.series_table.series(
        SeriesKey("unattributed", (), "late", "other", "any"), now=time.monotonic()
    )
    running.start()
    until(lambda: not running.accounting.series_table.kinds[row], "the idle series leaves long before 30 s")
