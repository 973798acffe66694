"""The resolver: makes the calls for the engine's questions and delivers their results."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import UNREADABLE, Question
from flowmap.control.clock import asked_instant
from flowmap.control.port import ControlPlane, OwnersAnswer
from flowmap.engine.commands import QuestionResult
from flowmap.errors import ControlError
from flowmap.model.deployment import Owner, may_own

log = logging.getLogger(__name__)

LOG_EVERY = 30.0
"""Seconds between two log lines about questions that failed."""

Deliver = Callable[[QuestionResult], None]


class Resolver:
    """Makes calls in one event loop; :meth:`start` may be called from any thread."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._calls: set[asyncio.Task[None]] = set()
        self._logged_at = float("-inf")
        self._suppressed = 0

    def start(self, question: Question, deliver: Deliver) -> None:
        """Start a call; the caller keeps to the budget. Its result is delivered in any case, also if it failed."""
        self._loop.call_soon_threadsafe(self._begin, question, deliver)

    async def aclose(self) -> None:
        """Cancel the calls under way; their questions get a failure as result."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _begin(self, question: Question, deliver: Deliver) -> None:
        call = self._loop.create_task(self._call(question, deliver))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, question: Question, deliver: Deliver) -> None:
        begun = time.monotonic(), time.time()
        try:
            answer = await self._control.find_owners(
                question.workspace, question.namespace, question.source, question.destination
            )
            result = self._result(question, answer, *begun)
        except ControlError as error:
            self._log(f"{question.shape} question about {_subject(question)}: {error}")
            deliver(QuestionResult(question, None, cause=f"{error.reason}: {error}", retry_after=error.retry_after))
        except asyncio.CancelledError:
            deliver(QuestionResult(question, None, cause="flowmap is stopping"))
            raise
        except Exception as error:  # a defect here must not leave the question in flight
            log.exception("%s question about %s", question.shape, _subject(question))
            deliver(QuestionResult(question, None, cause=f"defect: {error!r}"))
        else:
            deliver(result)

    def _log(self, message: str) -> None:
        """Log at most every :data:`LOG_EVERY` seconds: in an outage every question fails, and metrics count them."""
        now = time.monotonic()
        if now - self._logged_at < LOG_EVERY:
            self._suppressed += 1
            return
        more = f" (and {self._suppressed} more since the last such line)" if self._suppressed else ""
        log.warning("%s%s", message, more)
        self._logged_at, self._suppressed = now, 0

    def _result(self, question: Question, answer: OwnersAnswer, begun: float, begun_wall: float) -> QuestionResult:
        # The engine's time is monotonic, the answer's is wall time.
        now = time.monotonic()
        asked, arrived = answer.instants or (
            asked_instant(begun, begun_wall, answer.asked_at, now, time.time()),
            now,
        )
        infos = answer.deployments
        owners = {info.owner for info in infos if may_own(info)} | answer.roles
        if answer.unreadable:
            what = f"{answer.unreadable} elements of the answer could not be read"
            self._log(f"{question.shape} question about {_subject(question)}: {what}")
            if not infos:  # an unreadable answer is not an answer without owners
                return QuestionResult(question, None, cause=f"protocol: {what}", unreadable=answer.unreadable)
            workspace = question.workspace or self._control.workspace
            owners.add(Owner(workspace, question.namespace, UNREADABLE, UNREADABLE))
        given = Answer(min(asked, arrived), arrived, frozenset(owners))
        return QuestionResult(question, given, infos, unreadable=answer.unreadable, holders=answer.holders)


def _subject(question: Question) -> str:
    endpoints = [one for one in (question.source, question.destination) if one is not None]
    return " ".join(str(one) if one.port else str(one.address) for one in endpoints)
