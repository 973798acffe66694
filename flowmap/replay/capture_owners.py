"""Owners of endpoints at the time of a capture: from a catalog file, or from a daemon's history."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.calls.schedule import AnswerChanges
from flowmap.attribute.questions import Question
from flowmap.catalog_file.catalog import CatalogFile, DeploymentEntry, JobEntry
from flowmap.catalog_file.matching import Index, IpQuestion
from flowmap.config import Config
from flowmap.model.address import Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner, may_own
from flowmap.replay.driver import Answerer, Changes, Reply, answer, failure

NOT_ASKED = "no owners: the control plane only knows today's owners, not those of the capture's time"

CHANGING = "the catalog has other owners shortly before or after"

UNCONFIRMED = "history confirms no owner of this endpoint at this time"

Intervals = Callable[[Iterable[Question], float], Mapping[Question, Sequence[OwnershipInterval]]]

LATENCY = 0.001
"""Seconds until the answer from a file arrives: an answer is later than its question."""
ASK_AGAIN = 2.0
"""Longest pause in seconds before a catalog is asked again."""


def from_catalog(index: Index, *, grace: float) -> Answerer:
    """The answers of the embedded control plane at the time of each question.

    There is no answer within ``grace`` seconds of a change of owners. An answer also counts for this time around it
    (rule ``grace``), and could name an owner for a time when the catalog has another.
    """
    changes = sorted(_changes(index.catalog))

    def owners(question: Question, now: float) -> list[DeploymentInfo]:
        asked = IpQuestion(*_end(question.source), *_end(question.destination))
        found = index.by_ip(question.namespace, asked, now=now)
        infos = (_describe(entry, index.catalog.workspace, now) for entry in found)
        return [info for info in infos if may_own(info)]

    def answerer(question: Question, now: float) -> Reply:
        infos = owners(question, now)
        near = changes[bisect_left(changes, now - grace) : bisect_right(changes, now + grace)]
        around = (owners(question, instant) for change in near for instant in (change, math.nextafter(change, 0)))
        names = {info.owner for info in infos}
        if any({info.owner for info in others} != names for others in around):
            return failure(question, now, CHANGING, latency=LATENCY, retry_after=near[-1] + grace - now + LATENCY)
        return answer(question, now, infos, latency=LATENCY)

    return answerer


def catalog_changes(catalog: CatalogFile, *, grace: float) -> Changes:
    """When the answers of :func:`from_catalog` change: ``grace`` seconds after the owners."""
    settled = [-math.inf, *(change + grace + LATENCY for change in sorted(_changes(catalog))), math.inf]

    def changes(now: float) -> AnswerChanges:
        after = bisect_right(settled, now)
        return AnswerChanges(settled[after - 1], settled[min(after, len(settled) - 1)])

    return changes


def never(now: float) -> AnswerChanges:
    """The changes of answers that are always equal."""
    return AnswerChanges(-math.inf, math.inf)


def with_catalog(config: Config, catalog: CatalogFile) -> Config:
    """The configuration for :func:`from_catalog`: the catalog's namespaces, and short pauses between questions."""
    places = {"workspace": catalog.workspace, "namespaces": catalog.namespaces}
    pauses = {name: min(getattr(config.attribute, name), ASK_AGAIN) for name in ("positive_ttl", "negative_ttl")}
    sections = {"control_plane": places, "attribute": pauses | {"registration_lag": 0.0}}  # a file has no lag
    update = {name: getattr(config, name).model_copy(update=changed) for name, changed in sections.items()}
    return config.model_copy(update=update)


def _changes(catalog: CatalogFile) -> Iterator[float]:
    """Times at which an owner starts or ends."""
    for entry in catalog.deployments:
        for address in entry.addresses:
            yield from (instant for instant in (address.since, address.until) if instant is not None)
        yield from (job.end_time for job in entry.jobs if job.end_time is not None)


def from_history(intervals: Intervals) -> Answerer:
    """The owners that a daemon's history confirms for the time of each question; no answer without a confirmation.

    ``intervals``: see ``history.reader.HistoryReader.intervals``.
    """

    def answerer(question: Question, now: float) -> Reply:
        owners = {one.owners for one in intervals([question], now)[question]}
        if len(owners) != 1:
            return failure(question, now, UNCONFIRMED, latency=LATENCY)
        return answer(question, now, [DeploymentInfo(owner, seen_at=now) for owner in sorted(*owners)], latency=LATENCY)

    return answerer


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
