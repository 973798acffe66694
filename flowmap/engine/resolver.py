"""The resolver: makes the calls for the engine's questions and delivers their results."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import UNREADABLE, Question
from flowmap.engine.commands import QuestionResult
from flowmap.errors import ControlError
from flowmap.model.address import Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner

if TYPE_CHECKING:
    from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
    from flowmap.control.alibaba.api.models import Deployment

log = logging.getLogger(__name__)

CLOCK_STEP = 0.01
"""Seconds by which the wall clock may drift from the monotonic one during a call before it counts as set."""
LOG_EVERY = 30.0
"""Seconds between two log lines about questions that failed."""

_ENDED = frozenset({"cancelled", "finished", "failed"})


Deliver = Callable[[QuestionResult], None]


class Resolver:
    """Makes calls in one event loop; :meth:`start` may be called from any thread."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
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
            answer = await ask_question(self._client, question)
            result = self._result(question, answer, *begun)
        except ControlError as error:
            self._log(f"{question.shape} question about {_subject(question)}: {error}")
            deliver(QuestionResult(question, None, cause=f"{error.reason}: {error}", retry_after=error.retry_after))
        except asyncio.CancelledError:
            deliver(QuestionResult(question, None, cause="flowmap is stopping"))
            raise
        except Exception as error:  # a defect here must not leave the question in flight for ever
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

    def _result(self, question: Question, answer: DeploymentsAnswer, begun: float, begun_wall: float) -> QuestionResult:
        # The engine's time is monotonic, the answer's is wall time. If the wall clock was set during the call, the
        # answer counts as asked when the call began, before any retry: too early is safe, too late is not.
        arrived = time.monotonic()
        stepped = abs((time.time() - begun_wall) - (arrived - begun)) > CLOCK_STEP
        asked = begun if stepped else begun + max(0.0, answer.asked_at - begun_wall)
        workspace = question.workspace or self._client.workspace
        infos = tuple(describe(one, workspace, question.namespace, answer) for one in answer.deployments)
        owners = {info.owner for info in infos if may_own(info)}
        if answer.dropped:
            what = f"{answer.dropped} elements of the answer could not be read"
            self._log(f"{question.shape} question about {_subject(question)}: {what}")
            if not infos:  # an unreadable answer is not an answer without owners
                return QuestionResult(question, None, cause=f"protocol: {what}", unreadable=answer.dropped)
            owners.add(Owner(workspace, question.namespace, UNREADABLE, UNREADABLE))
        given = Answer(min(asked, arrived), arrived, frozenset(owners))
        return QuestionResult(question, given, infos, unreadable=answer.dropped)


async def ask_question(client: ControlClient, question: Question) -> DeploymentsAnswer:
    """Make the call that a question stands for. ControlError if there is no usable answer."""
    client = client.of_workspace(question.workspace) if question.workspace else client
    return await client.get_deployments_by_ip(
        namespace=question.namespace,
        src_ip=_address(question.source),
        src_port=_port(question.source),
        dst_ip=_address(question.destination),
        dst_port=_port(question.destination),
    )


def describe(deployment: Deployment, workspace: str, namespace: str, answer: DeploymentsAnswer) -> DeploymentInfo:
    """The description of a deployment in an answer."""
    summary = deployment.job_summary
    name = deployment.name or deployment.deployment_id
    return DeploymentInfo(
        owner=Owner(
            deployment.workspace or workspace, deployment.namespace or namespace, deployment.deployment_id, name
        ),
        execution_mode=deployment.execution_mode or "",
        engine_version=deployment.engine_version or "",
        creator=deployment.creator_name or deployment.creator or "",
        labels=dict(deployment.labels or {}),
        jobs_by_state={k: v for k, v in summary.model_dump().items() if isinstance(v, int)} if summary else {},
        seen_at=answer.answered_at,
    )


def may_own(info: DeploymentInfo) -> bool:
    """Whether the deployment may hold connections: a job has not ended, or there is no job summary."""
    alive = sum(count for state, count in info.jobs_by_state.items() if state not in _ENDED)
    return not info.jobs_by_state or alive > 0


def _address(endpoint: Endpoint | None) -> str | None:
    return None if endpoint is None else str(endpoint.address)


def _port(endpoint: Endpoint | None) -> int | None:
    return None if endpoint is None or endpoint.port == 0 else endpoint.port


def _subject(question: Question) -> str:
    endpoints = [one for one in (question.source, question.destination) if one is not None]
    return " ".join(str(one) if one.port else str(one.address) for one in endpoints)
