"""The questions that this host waits for: what it reports of them to the server, and which one comes next without it.

Pending traffic decides, as in the schedule of one host: three of four calls go to the largest, one to the question that
has waited longest. Questions without pending traffic come after those, listings beside the latter, and questions that
only narrow candidates get spare calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flowmap.errors import Transient
from flowmap.fleet.requests import Kind, Request

LIMIT = 4096
"""Questions that one host may wait for; further ones fail at once."""

NARROWING = 100
"""Those of them that only narrow candidates: spare calls may not come for long, and others must have room."""

SPARE_PAUSE = 10.0
"""Seconds after which one of those is tried again, if too many wait."""

REPORTED = 200
"""Questions reported in one exchange."""

REPORT_AGAIN = 10.0
"""Seconds between two reports of one question, which show that it is still wanted."""

SINCE_LIMIT = 100_000
"""Questions whose last answer is remembered."""

UNHURRIED = 1e6
"""Seconds by which a question without pending traffic stands behind the others."""
LISTING = 30.0
"""Seconds by which a listing does."""
SPARE = -1e15
"""Score of a question that only gets spare calls."""
FAIR = 4
"""One call in this many goes to the question that has waited longest."""


class Report(NamedTuple):
    """What the server gets about one question."""

    question: str
    more: float
    """What its score has grown by."""
    delay: str
    """Seconds by which it stands behind others in the order of waiting; empty: spare calls only."""
    since: float
    """Only an answer that was stored after this instant of the server's clock is new to this host."""


class Want:
    """A question that this host waits for."""

    def __init__(self, request: Request, question: str, now: float) -> None:
        self.request = request
        self.question = question
        """Its name in the shared queue."""
        self.alone = False
        """Whether only this host's own call serves. The server does not get such a question, only the calls for it."""
        self.wanted_at = now
        self.hurries = True
        """Whether flows wait for it, or may: an exchange about it does not wait for others."""
        self.traffic = 0.0
        """Pending bytes, and one for each pending flow; negative: spare calls only."""
        if request.narrows:
            self.traffic = SPARE
        self._reported: float | None = None
        self._reported_at = 0.0

    @property
    def delay(self) -> str:
        """As in :class:`Report`."""
        if self.traffic < 0:
            return ""
        if self.request.kind is not Kind.OWNERS:
            return str(LISTING)
        return "0" if self.traffic else str(UNHURRIED)

    def take_traffic(self, amount: float) -> None:
        """Bytes that wait, and one for each flow. It never falls: the server adds what it has grown by."""
        self.hurries = amount > 0
        if amount or not self.request.narrows:
            self.traffic = max(amount, self.traffic)

    @property
    def is_reported(self) -> bool:
        """Whether the server knows of it."""
        return self._reported is not None

    def is_due(self, now: float) -> bool:
        """Whether it must be reported: for the first time, again, or because traffic waits for it now."""
        reported = self._reported
        if reported is None or now - self._reported_at >= REPORT_AGAIN:
            return True
        return self.traffic > 2 * max(reported, 0.0)

    def report(self, since: float, now: float) -> Report:
        """The report; from now on it is known to the server."""
        more = self.traffic - (self._reported or 0.0)
        self._reported, self._reported_at = self.traffic, now
        return Report(self.question, more, self.delay, since)

    def report_anew(self) -> None:
        """The server does not know it, or not any more."""
        self._reported = None


class Changes(NamedTuple):
    """What other pending traffic means for the questions."""

    gone: list[Want]
    """Nothing needs these any more."""
    hurry: bool
    """Whether flows wait for one that could wait before."""


class Waiting:
    """All of them, at most :data:`LIMIT`. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._wants: dict[Request, Want] = {}
        self._by_question: dict[str, Want] = {}
        self._traffic: Mapping[Request, float] = {}
        self._since: OrderedDict[str, float] = OrderedDict()
        self._turn = 0

    def __len__(self) -> int:
        return len(self._wants)

    def get(self, request: Request) -> Want | None:
        """The want of a request, if there is one."""
        return self._wants.get(request)

    def named(self, question: str) -> Want | None:
        """The want with this name in the shared queue."""
        return self._by_question.get(question)

    def add(self, request: Request, question: str, now: float) -> Want:
        """Begin to wait; Transient if there is no room."""
        if len(self._wants) >= LIMIT:
            raise Transient(f"{LIMIT} questions wait for the fleet's budget already", reason="fleet")
        if request.narrows and self.narrowing >= NARROWING:
            raise Transient("the fleet has no spare calls for narrowing", reason="fleet", retry_after=SPARE_PAUSE)
        want = self._wants[request] = self._by_question[question] = Want(request, question, now)
        if (amount := self._traffic.get(request)) is not None:
            want.take_traffic(amount)
        return want

    def leave_alone(self, want: Want) -> None:
        """Let only this host's own call serve from now on."""
        want.alone = True
        self._by_question.pop(want.question, None)

    @property
    def reported(self) -> bool:
        """Whether the server knows of any: then answers of other hosts are of interest."""
        return any(want.is_reported for want in self._by_question.values())

    @property
    def hurried(self) -> bool:
        """Whether flows wait for one of them, or may."""
        return any(want.hurries for want in self._wants.values())

    @property
    def narrowing(self) -> int:
        """Questions that only narrow candidates."""
        return sum(want.request.narrows for want in self._wants.values())

    def alone(self, called: Iterable[Request]) -> int:
        """Questions that only a call of this host can answer, except those in ``called``."""
        if len(self._wants) == len(self._by_question):
            return 0
        busy = set(called)
        return sum(want.alone and want.request not in busy for want in self._wants.values())

    def remove(self, request: Request) -> Want | None:
        """Wait no more."""
        want = self._wants.pop(request, None)
        if want is not None:
            self._by_question.pop(want.question, None)
        return want

    def set_traffic(self, traffic: Mapping[Request, float]) -> Changes:
        """Take the pending traffic of every question about owners."""
        gone, hurry, self._traffic = [], False, traffic
        for want in self._wants.values():
            if want.request.kind is Kind.OWNERS:
                amount = traffic.get(want.request)
                if amount is None:
                    gone.append(want)
                else:
                    before = want.hurries
                    want.take_traffic(amount)
                    hurry |= want.hurries > before
        return Changes(gone, hurry)

    def reports(self, now: float) -> list[Report]:
        """What to report in the next exchange."""
        due = [want for want in self._by_question.values() if want.is_due(now)]
        due.sort(key=lambda want: -want.traffic)
        return [want.report(self._since.get(want.question, 0.0), now) for want in due[:REPORTED]]

    def report_anew(self, questions: Iterable[str] | None = None) -> None:
        """Report these questions again; None: all, and forget which answers are known: the server has a new state."""
        if questions is None:
            self._since.clear()
        for want in self._wants.values() if questions is None else map(self.named, questions):
            if want is not None:
                want.report_anew()

    def note_stored(self, question: str, stored: float) -> None:
        """The newest answer that this host knows was stored at this instant of the server's clock."""
        self._since[question] = max(stored, self._since.pop(question, 0.0))
        if len(self._since) > SINCE_LIMIT:
            self._since.popitem(last=False)

    def best(self, called: Iterable[Request], *, alone: bool = False) -> Want | None:
        """The question that this host asks next, except those in ``called``; ``alone``: of those that are alone."""
        busy = set(called)
        open_wants = [want for want in self._wants.values() if want.request not in busy and want.alone >= alone]
        if not open_wants:
            return None
        self._turn = (self._turn + 1) % FAIR
        if self._turn == 0:
            return min(open_wants, key=_place_in_time)
        return max(open_wants, key=lambda want: (want.traffic, -want.wanted_at))


def _place_in_time(want: Want) -> float:
    return want.wanted_at + (float(want.delay) if want.delay else 10 * UNHURRIED)
