"""The arguments and the reply of one exchange with the server, as ``exchange.lua`` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flowmap.errors import FleetError
from flowmap.fleet.server.connection import Argument
from flowmap.fleet.waiting import Report

VERSION = 2
"""Of the shared state and of the answers in it. Hosts of different versions share nothing."""

RESULTS = 20
"""Results sent in one exchange."""


class Ticket(NamedTuple):
    """The right to one call."""

    question: str
    number: str


class Booking(NamedTuple):
    """A ticket, and the seconds until the budget has its call."""

    ticket: Ticket
    delay: float


class CallMade(NamedTuple):
    """A call that was answered."""

    ticket: Ticket
    answer: bytes
    """For other hosts; empty: nothing to share."""


class CallFailed(NamedTuple):
    """A call that was not answered."""

    ticket: Ticket
    pause: float
    """Seconds for which no host should ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a host sends."""

    host: str
    epoch: str
    """The name of a new state, if there is none."""
    rate: float
    burst: int
    size: int
    recheck: float
    lease: float
    slots: int = 0
    repeats: int = 0
    cursor: float = 0.0
    """Instant of the server's clock after which answers are of interest; 0: none, as nothing was waited for."""
    notice: str = ""
    """``leave``: the host stops. ``jump``: it saw that the server's clock was set. ``lost``: it got no reply to its
    last exchange, so of the tickets it was granted it has those in ``held`` only. ``start`` and the
    seconds since the first exchange: the names that are equal up to the last ``/`` are of earlier starts."""
    held: Sequence[str] = ()
    made: Sequence[CallMade] = ()
    failed: Sequence[CallFailed] = ()
    wants: Sequence[Report] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", tuple(self.made)[:RESULTS])
        object.__setattr__(self, "failed", tuple(self.failed)[:RESULTS])

    def arguments(self) -> list[Argument]:
        """ARGV of the script."""
        fixed: list[Argument] = [VERSION, self.host, self.epoch, self.rate, self.burst, self.size]
        fixed += [self.recheck, self.lease, self.slots, self.repeats, f"{self.cursor:.6f}", self.notice]
        fixed += [len(self.made), len(self.failed), len(self.wants)]
        for made in self.made:
            fixed += [*made.ticket, made.answer]
        for failed in self.failed:
            fixed += [*failed.ticket, failed.pause]
        for report in self.wants:
            fixed += [report.question, report.more, report.delay, f"{report.since:.6f}"]
        return [*fixed, *self.held]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a host gets. Instants are seconds of the server's clock."""

    now: float
    epoch: str
    cursor: float
    tickets: tuple[Booking, ...]
    stored: tuple[tuple[str, float], ...]
    """Questions with an answer that may be new to this host, and when it was stored."""
    refused: tuple[str, ...]
    """Questions for which the queue has no room."""
    granted: tuple[float, ...]
    """Calls for this host alone: the seconds until the budget has each of them."""
    queued: int
    oldest: float
    """Seconds that the question which has waited longest has waited."""
    hosts: int
    missing: int
    token_in: float
    """Seconds until the budget grants another call."""
    rate: float
    """Calls a second that the fleet keeps to."""
    again: float | None
    """Seconds until a question that was reported, and rests, may be asked; None if none of them rests."""

    @classmethod
    def parse(cls, raw: Sequence[object]) -> Reply:
        """Read a reply of the script; FleetError if it is none."""
        try:
            (
                now,
                epoch,
                cursor,
                tickets,
                held,
                answered,
                refused,
                granted,
                queued,
                oldest,
                hosts,
                missing,
                wait,
                rate,
                again,
            ) = raw
            return cls(
                float(_text(now)),
                _text(epoch),
                float(_text(cursor)),
                tuple(Booking(Ticket(question, number), float(delay)) for question, number, delay in _rows(tickets, 3)),
                tuple((question, float(at)) for question, at in (*_rows(held, 2), *_rows(answered, 2))),
                tuple(_texts(refused)),
                tuple(map(float, _texts(granted))),
                int(_text(queued)),
                float(_text(oldest)),
                int(_text(hosts)),
                int(_text(missing)),
                float(_text(wait)),
                float(_text(rate)),
                float(_text(again)) if again else None,
            )
        except (TypeError, ValueError) as error:
            message = (
                "the server's reply is not one of flowmap's script: did another program change the keys flowmap:*?"
            )
            raise FleetError(message, reason="protocol") from error


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(lines: object) -> list[str]:
    text = _text(lines)
    return text.split("\n") if text else []


def _rows(lines: object, width: int) -> list[tuple[str, ...]]:
    texts = _texts(lines)
    return list(zip(*(texts[place::width] for place in range(width)), strict=True))
