"""Who is at an end at an instant, for captures: from a catalog file, from a daemon's history, or from nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from flowmap.asker import may_own
from flowmap.attribute.questions import Question
from flowmap.attribute.ranges import Range
from flowmap.attribute.view import DeploymentInfo, Owner
from flowmap.flows.address import Endpoint
from flowmap.offline import Answerer, Reply, answer, failure
from flowmap.sandbox.catalog import DeploymentEntry, JobEntry
from flowmap.sandbox.matching import Index, IpQuestion

NOBODY = "nobody was asked: the control plane knows the present, and the capture is of the past"

UNCONFIRMED = "history confirms nobody for this end at this moment"

Ranges = Callable[[Iterable[Question], float], Mapping[Question, Sequence[Range]]]

LATENCY = 0.001
"""Seconds an answer from a file takes: an answer is given after it was asked."""


def from_catalog(index: Index) -> Answerer:
    """Answers as the embedded control plane would have given them at the instant of the question."""

    def answerer(question: Question, now: float) -> Reply:
        asked = IpQuestion(*_end(question.source), *_end(question.destination))
        found = index.by_ip(question.namespace, asked, now=now)
        infos = (_describe(entry, index.catalog.workspace, now) for entry in found)
        return answer(question, now, [info for info in infos if may_own(info)], latency=LATENCY)

    return answerer


def from_history(ranges: Ranges) -> Answerer:
    """What a daemon's history has confirmed for the instant of the question; where that is nothing, there is no
    answer. ``ranges``: see ``history.archive.Archive.ranges``."""

    def answerer(question: Question, now: float) -> Reply:
        owners = {one.owners for one in ranges([question], now)[question]}
        if len(owners) != 1:
            return failure(question, now, UNCONFIRMED, latency=LATENCY)
        return answer(question, now, [DeploymentInfo(owner, seen_at=now) for owner in sorted(*owners)], latency=LATENCY)

    return answerer


def from_nobody(question: Question, now: float) -> Reply:
    """No answer, ever: the flows wait."""
    return failure(question, now, NOBODY, latency=LATENCY)


def _end(endpoint: Endpoint | None) -> tuple[str | None, int | None]:
    return (None, None) if endpoint is None else (str(endpoint.address), endpoint.port or None)


def _describe(entry: DeploymentEntry, workspace: str, now: float) -> DeploymentInfo:
    states = Counter("finished" if _is_over(job, now) else job.status.lower() for job in entry.jobs)
    return DeploymentInfo(
        owner=Owner(workspace, entry.namespace, entry.id, entry.name),
        execution_mode=entry.execution_mode,
        engine_version=entry.engine_version,
        creator=entry.creator_name,
        labels={key: str(value) for key, value in entry.labels.items()},
        jobs_by_state=dict(states),
        seen_at=now,
    )


def _is_over(job: JobEntry, now: float) -> bool:
    return job.end_time is not None and job.end_time <= now
