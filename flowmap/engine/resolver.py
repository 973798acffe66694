"""Asks the control plane what the writer wants to know, and hands back what came of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import UNREADABLE, Question
from flowmap.control.port import ControlPlane, OwnersAnswer
from flowmap.engine.commands import QuestionResult
from flowmap.errors import ControlError
from flowmap.model.deployment import Owner, may_own

log = logging.getLogger(__name__)

CLOCK_STEP = 0.01
"""Seconds by which the wall clock may drift from the monotonic one during a call before it counts as set."""
COMPLAIN_EVERY = 30.0
"""Seconds between two log lines about questions that failed."""


class Resolver:
    """Turns questions into calls. Lives in one event loop; :meth:`start` may be called from any thread."""

    def __init__(self, control: ControlPlane, deliver: Callable[[QuestionResult], None]) -> None:
        self._control = control
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._calls: set[asyncio.Task[None]] = set()
        self._complained = float("-inf")
        self._silenced = 0

    def start(self, question: Question) -> None:
        """Begin a call; the caller keeps to the budget. What comes of it is delivered in any case."""
        self._loop.call_soon_threadsafe(self._begin, question)

    async def aclose(self) -> None:
        """End the calls under way."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _begin(self, question: Question) -> None:
        call = self._loop.create_task(self._call(question))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, question: Question) -> None:
        begun = time.monotonic(), time.time()
        try:
            answer = await self._control.find_owners(
                question.workspace, question.namespace, question.source, question.destination
            )
            delivery = self._delivery(question, answer, *begun)
        except ControlError as error:
            self._complain(f"{question.shape} question about {_subject(question)}: {error}")
            self._deliver(
                QuestionResult(question, None, cause=f"{error.reason}: {error}", retry_after=error.retry_after)
            )
        except asyncio.CancelledError:
            self._deliver(QuestionResult(question, None, cause="flowmap is stopping"))
            raise
        except Exception as error:  # a defect here must not leave the question in flight for ever
            log.exception("%s question about %s", question.shape, _subject(question))
            self._deliver(QuestionResult(question, None, cause=f"defect: {error!r}"))
        else:
            self._deliver(delivery)

    def _complain(self, message: str) -> None:
        """One line a while: a control plane that is away fails every question, and the metrics count them."""
        now = time.monotonic()
        if now - self._complained < COMPLAIN_EVERY:
            self._silenced += 1
            return
        more = f" (and {self._silenced} more since the last such line)" if self._silenced else ""
        log.warning("%s%s", message, more)
        self._complained, self._silenced = now, 0

    def _delivery(self, question: Question, answer: OwnersAnswer, begun: float, begun_wall: float) -> QuestionResult:
        # The engine's time is monotonic, the answer's is not. Where the wall clock was set meanwhile, the call counts
        # as asked when it began, retries and all: too early is safe, too late would take it for younger than it is.
        arrived = time.monotonic()
        stepped = abs((time.time() - begun_wall) - (arrived - begun)) > CLOCK_STEP
        asked = begun if stepped else begun + max(0.0, answer.asked_at - begun_wall)
        infos = answer.deployments
        owners = {info.owner for info in infos if may_own(info)}
        if answer.unreadable:
            what = f"{answer.unreadable} elements of the answer could not be read"
            self._complain(f"{question.shape} question about {_subject(question)}: {what}")
            if not infos:  # nothing was learnt, which is not the same as nobody
                return QuestionResult(question, None, cause=f"protocol: {what}", unreadable=answer.unreadable)
            workspace = question.workspace or self._control.workspace
            owners.add(Owner(workspace, question.namespace, UNREADABLE, UNREADABLE))
        given = Answer(min(asked, arrived), arrived, frozenset(owners))
        return QuestionResult(question, given, infos, unreadable=answer.unreadable)


def _subject(question: Question) -> str:
    ends = [end for end in (question.source, question.destination) if end is not None]
    return " ".join(str(end) if end.port else str(end.address) for end in ends)
