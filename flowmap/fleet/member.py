"""A host as a member of its fleet: the task that exchanges with the server, makes calls, and delivers answers.

One turn: report what this host wants and what its calls returned; take tickets, and the answers of other hosts. Without
the server the host uses its own share of the rate, and answers nothing that it does not ask itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.port import ControlPlane
from flowmap.errors import ControlError, FleetError, Transient
from flowmap.fleet import pace
from flowmap.fleet.admission import Admission
from flowmap.fleet.answers import Refused
from flowmap.fleet.calling import Made, Value
from flowmap.fleet.calls import Calls
from flowmap.fleet.figures import Figures
from flowmap.fleet.naming import Notices
from flowmap.fleet.reporting import Reporting
from flowmap.fleet.requests import FleetScope, Request
from flowmap.fleet.server.clock import ServerClock
from flowmap.fleet.server.connection import Connection
from flowmap.fleet.server.exchange import Booking, CallMade, Exchange, Reply, Ticket
from flowmap.fleet.server.pushes import Message, Pushes
from flowmap.fleet.settings import MemberSettings
from flowmap.fleet.trust import Trust
from flowmap.fleet.turns import Turns
from flowmap.fleet.waiting import Waiting, Want

log = logging.getLogger(__name__)

ACCOUNT_EVERY = 60.0
"""Seconds between two looks whether the account's keys are those of another account."""
LATE_MESSAGE = 1.0
"""Seconds after which a message counts as lost."""
LEAVE_SECONDS = 0.5
"""Longest time for taking leave of the fleet."""


class Member:
    """The task and its state. Used in one event loop."""

    def __init__(
        self,
        control: ControlPlane,
        server: Connection,
        settings: MemberSettings,
        *,
        scope: Callable[[], Awaitable[FleetScope]],
        admission: Admission,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``control`` makes the calls. ``scope``: with whom to share; FleetError or ControlError if not known now."""
        self.settings = settings
        self.figures = Figures()
        self._control = control
        self._server = server
        self._find_scope = scope
        self._admission = admission
        self._clock = clock
        self._turns = Turns(clock)
        admission.on_request(self._turns.come)
        self._waiting = Waiting()
        self._futures: dict[Request, list[asyncio.Future[Value]]] = {}
        self._calls = Calls(control, clock, sign=self._signed, finish=self._finish, wake=self._turns.come)
        self._pushes = Pushes(server, clock, self.figures, come=self._turns.come, patience=self._patience)
        self._collected = 0
        self._server_clock = ServerClock()
        self._share = pace.OwnShare()
        self._scope: FleetScope | None = None
        self._scope_at = float("-inf")
        self._epoch = ""
        self._cursor = 0.0
        self._notices = Notices()
        self._reporting = Reporting()
        self._reply: Reply | None = None
        self._reached_at = clock.monotonic()
        self._retry_at = float("-inf")
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task, in the running loop. Later calls do nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="fleet")

    async def aclose(self) -> None:
        """End the task and its calls, and leave the fleet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._pushes.aclose()
        await self._calls.aclose()
        for futures in self._futures.values():
            for future in futures:
                future.cancel()
        if self._scope is not None and self.figures.up:
            with contextlib.suppress(FleetError, TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._server.exchange(self._scope.keys(), self._exchange(leave=True).arguments())
        await self._server.aclose()

    async def get(self, request: Request) -> Value:
        """The result of a request, by this host's call or another's. ControlError."""
        want = self._waiting.get(request)
        if want is None:
            want = self._waiting.add(request, request.text(), self._clock.monotonic())
            if self.settings.trust == "own":
                self._waiting.leave_alone(want)
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(request, []).append(future)
        self._turns.come(self._patience_for(want))
        try:
            return await future
        finally:
            futures = self._futures.get(request, [])
            if future in futures:
                futures.remove(future)
            if not futures:
                self._futures.pop(request, None)
                self._waiting.remove(request)

    def set_traffic(self, traffic: Mapping[Request, float]) -> None:
        """Take the pending traffic of every question that the engine waits for; the others are needed no more."""
        changes = self._waiting.set_traffic(traffic)
        for want in changes.gone:
            self._finish(want.request, Transient("no flow waits for this answer any more", reason="fleet"))
        if changes.hurry:
            self._turns.come()

    # The task.

    async def _run(self) -> None:
        while True:
            try:
                pause = await self._turn()
            except Exception:  # a defect must not end the naming of flows for the life of the daemon
                log.exception("fleet: turn failed; next one in %g s", pace.IDLE)
                pause = pace.IDLE
            await self._turns.next(pause, self._hosts)

    def _patience(self, question: str) -> float | None:
        return None if (want := self._waiting.named(question)) is None else self._patience_for(want)

    def _patience_for(self, want: Want) -> float:
        """Seconds for which an exchange about this can wait for more to exchange."""
        return 0.0 if want.hurries else pace.gathering(self._hosts)

    @property
    def _hosts(self) -> int:
        return self._reply.hosts if self._reply is not None else 1

    async def _turn(self) -> float:
        """One exchange, or one attempt. Returns the seconds until the next."""
        now = self._clock.monotonic()
        if now >= self._retry_at:
            try:
                await self._exchange_once(now)
            except (FleetError, ControlError) as error:
                self._lost(error)
        now = self._clock.monotonic()
        if not self.figures.up and now - self._reached_at >= pace.LOCAL_AFTER:
            self._use_own_share(now)
        self.figures.waiting = len(self._waiting)
        return self._pause(now)

    def _pause(self, now: float) -> float:
        reply = self._reply
        if not self.figures.up or reply is None:
            return max(0.02, min(self._retry_at - now, self._share.next_in(now)))
        alone = self._alone + self._admission.waiting  # no message is about these
        pause = pace.next_exchange(
            hosts=reply.hosts,
            waiting=len(self._waiting) + self._admission.waiting,
            hurried=self._admission.waiting > 0 or self._waiting.hurried,
            callable_=reply.queued + alone,
            token_in=reply.token_in,
            may_call=self._slots > 0 or self._admission.waiting > 0,
            told=self._told,
            chance=self._clock.chance(),
        )
        return max(0.0, min(pause, self._pushes.come_at - now))

    @property
    def _slots(self) -> int:
        """Calls that this host may begin."""
        if self._control.status().resting_for > 0:
            return 0
        return max(0, self.settings.max_in_flight - len(self._calls))

    @property
    def _alone(self) -> int:
        return self._waiting.alone(self._calls.requests)

    async def _exchange_once(self, now: float) -> None:
        scope = await self._current_scope(now)
        self._pushes.subscribe(scope.channel(self.settings.host))
        exchange, generation = self._exchange(), self._pushes.generation
        arrived = self._pushes.take(self._clock.monotonic())
        sent = self._clock.monotonic()
        self._turns.note_exchange(sent, self._hosts)
        try:
            raw = await self._server.exchange(scope.keys(), exchange.arguments())
        except FleetError:  # the server may have taken it nevertheless, and granted tickets
            self._waiting.report_anew([*(report.question for report in exchange.wants), *arrived])
            self._notices.lost_reply = True
            raise
        received = self._clock.monotonic()
        reply = Reply.parse(raw)
        self._calls.delivered(exchange)
        self._notices.delivered(exchange.notice, received)
        self._reached(received)
        self._notices.jumped = not self._server_clock.observe(sent=sent, received=received, server=reply.now)
        if reply.epoch != self._epoch or self._notices.jumped:
            self._epoch, self._cursor = reply.epoch, reply.now
            self._waiting.report_anew()
        self._cursor, self._collected = reply.cursor, generation
        self._waiting.report_anew(reply.refused)
        self._reply = reply
        if reply.again is not None:
            self._pushes.come(received + reply.again)
        self.figures.take(reply)
        self._reporting.take(reply, self.settings, received)
        self._use(reply.granted, received)
        for one in exchange.made:
            self._waiting.note_stored(one.ticket.question, reply.now)
        for booking in reply.tickets:
            self._begin(booking, sent, received)
        self._take_arrived(arrived)
        if not self._notices.jumped:
            await self._take_answers(scope, reply)

    def _exchange(self, *, leave: bool = False) -> Exchange:
        """What to send. The results stay until the server has them."""
        settings, slots = self.settings, self._slots
        alone = min(slots, self._alone)
        return Exchange(
            host=settings.host,
            epoch=secrets.token_hex(8),
            rate=settings.rate,
            burst=settings.burst,
            size=settings.size,
            recheck=settings.recheck,
            lease=settings.lease,
            slots=slots - alone if settings.trust == "all" else 0,
            repeats=self._admission.waiting + alone,
            cursor=self._cursor if self._waiting.reported and not self._told else 0.0,
            notice="leave" if leave else self._notices.next(self._clock.monotonic()),
            held=self._calls.held() if self._notices.lost_reply else (),
            made=self._calls.made,
            failed=self._calls.failed,
            wants=() if leave else tuple(self._waiting.reports(self._clock.monotonic())),
        )

    @property
    def _told(self) -> bool:
        """Whether the server passes on every answer since the last exchange."""
        return self._pushes.generation == self._collected != 0

    async def _current_scope(self, now: float) -> FleetScope:
        if self._scope is None or now - self._scope_at >= ACCOUNT_EVERY:
            scope = await self._find_scope()
            if scope != self._scope:
                self._scope, self._epoch = scope, ""
                self._calls.forget()  # their tickets are of another queue
            self._scope_at = now
        return self._scope

    def _reached(self, now: float) -> None:
        if not self.figures.up and self._failures:
            self._reporting.reached()
        self.figures.up, self.figures.problem = True, None
        self._reached_at, self._failures, self._retry_at = now, 0, float("-inf")
        self._share.close()

    def _lost(self, error: FleetError | ControlError) -> None:
        now = self._clock.monotonic()
        self._failures += 1
        self._retry_at = now + pace.next_attempt(self._failures, hosts=self._hosts, chance=self._clock.chance())
        self.figures.up, self.figures.problem = False, str(error)
        self.figures.failures[error.reason] += 1
        self._reporting.lost(error, now)

    # Calls of this host.

    def _begin(self, booking: Booking, sent: float, received: float) -> None:
        """Use a ticket that was granted between the instants ``sent`` and ``received``."""
        ticket = booking.ticket
        try:
            want = self._waiting.named(ticket.question)
            request = want.request if want is not None else Request.parse(ticket.question)
        except ValueError:
            self.figures.refused["question"] += 1
            self._calls.made.append(CallMade(ticket, b""))  # without an answer, it leaves the queue
        else:
            latest = sent + booking.delay + self.settings.lease / 2
            self._calls.begin(request, ticket, begins=received + booking.delay, latest=latest)

    def _use(self, granted: Sequence[float], received: float) -> None:
        """Use calls that are for this host: repeats first, then questions that only its own call serves."""
        repeats = self._admission.waiting
        for number, delay in enumerate(granted):
            if number < repeats:
                self._admission.grant(received + delay - self._clock.monotonic())
            elif want := self._waiting.best(self._calls.requests, alone=True):
                self._calls.begin(want.request, begins=received + delay)

    def _use_own_share(self, now: float) -> None:
        settings = self.settings
        self._share.open(now, rate=settings.rate, size=settings.size, chance=self._clock.chance())
        want = self._waiting.best(self._calls.requests) if self._slots else None
        if not (want or self._admission.waiting) or not self._share.take(now, rate=settings.rate, size=settings.size):
            return
        self.figures.local_calls += 1
        if self._admission.waiting:
            self._admission.grant()
        elif want is not None:
            self._calls.begin(want.request)

    def _signed(self, ticket: Ticket, made: Made) -> bytes:
        ahead = self._server_clock.ahead(self._clock.monotonic())
        return b"" if self._trust is None or ahead is None else self._trust.sign(ticket.question, made, ahead)

    @property
    def _trust(self) -> Trust | None:
        settings = self.settings
        return None if self._scope is None else Trust(self._scope, settings.keys, settings.grace, self._clock)

    # Answers of other hosts.

    def _take_arrived(self, arrived: Mapping[str, Message]) -> None:
        """Take what was passed on before an exchange, which showed whether the server's clock was set."""
        for question, message in arrived.items():
            want = self._waiting.named(question)
            if want is not None and message.answer and message.epoch == self._epoch and not self._notices.jumped:
                self._waiting.note_stored(question, message.at)
                self._take(want, message.answer)
            elif want is not None:
                want.report_anew()  # the next exchange finds it
                self._turns.come()

    async def _take_answers(self, scope: FleetScope, reply: Reply) -> None:
        stored = {question: at for question, at in reply.stored if self._waiting.named(question) is not None}
        if not stored:
            return
        try:
            found = await self._server.answers(scope.answers_key, list(stored))
        except FleetError:
            self._waiting.report_anew(stored)
            raise
        for (question, at), data in zip(stored.items(), found, strict=True):
            want = self._waiting.named(question)
            if want is not None and data is None:  # it has expired just now
                want.report_anew()
            elif want is not None and data is not None:
                self._waiting.note_stored(question, at)
                self._note_lost(want, reply.now - at)
                self._take(want, data)

    def _note_lost(self, want: Want, age: float) -> None:
        """An exchange found an answer that is ``age`` seconds old: was a message about it lost?"""
        waited = self._clock.monotonic() - want.wanted_at
        if self._told and LATE_MESSAGE < age < waited - LATE_MESSAGE:
            self.figures.lost_messages += 1
            self._pushes.renew()

    def _take(self, want: Want, data: bytes) -> None:
        ahead, trust = self._server_clock.ahead(self._clock.monotonic()), self._trust
        assert ahead is not None and trust is not None, "there was an exchange"
        try:
            value = trust.read(want.request, want.question, data, ahead)
        except Refused as error:
            self.figures.refused[error.reason] += 1
            self._reporting.refused(error.reason, self._clock.monotonic())
            log.debug("fleet: %s: %s; this host asks itself", want.question, error)
            self._waiting.leave_alone(want)
            self._turns.come()
        else:
            self.figures.saved += 1
            self._finish(want.request, value)

    def _finish(self, request: Request, result: Value | ControlError) -> None:
        """Deliver a result to everything on this host that waits for it."""
        self._waiting.remove(request)
        for future in self._futures.pop(request, []):
            if not future.done():
                if isinstance(result, ControlError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
