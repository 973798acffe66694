"""The catalog: what the control plane's listings said of deployments and of their jobs. Pure.

A listing that lacks more than half of what the last one had is more likely a fault of the API than the end of the
deployments. Nothing is removed then for a grace time; it is believed only if it stays so. What a listing adds, renames
or labels anew is taken over at once in any case.

Written by one thread; look-ups from others find either the old or the new value, never a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

from flowmap.control.alibaba.api.models import Artifact, Deployment, Job
from flowmap.control.alibaba.api.packages import FileUse, files_of

DEPLOYMENTS = 100_000
"""Deployments kept, all namespaces together; what exceeds it is counted as left out."""

LISTED_JOBS = 10_000
"""Deployments whose jobs are kept; the longest not listed go first."""

JOBS_EACH = 100
"""Jobs kept of one deployment: those not over, then the newest."""

GRACE = 600.0
"""Seconds for which a listing that lost more than half is not believed."""

OVER = frozenset(("CANCELLED", "FINISHED", "FAILED"))
"""States of a job that has ended."""

Key = tuple[str, str]
"""Namespace and deployment id."""

Verdict = Literal["taken", "incomplete", "suspicious", "believed"]
"""What became of a listing: taken as it is; only added; only added, because it lost too much; taken although it did."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A deployment as a listing described it, as far as flowmap has a use for it."""

    workspace: str
    """Empty where the answer did not say."""
    namespace: str
    deployment_id: str
    name: str
    execution_mode: str
    engine_version: str
    creator: str
    labels: Mapping[str, str] | None
    """None where no listing had them, which is not the same as no labels."""
    jobs_by_state: Mapping[str, int] | None
    files: tuple[FileUse, ...]

    @classmethod
    def of(cls, deployment: Deployment, namespace: str) -> CatalogEntry:
        """What is kept of an element of a listing of ``namespace``."""
        return cls(
            workspace=deployment.workspace or "",
            namespace=deployment.namespace or namespace,
            deployment_id=deployment.deployment_id,
            name=deployment.name or deployment.deployment_id,
            execution_mode=deployment.execution_mode or "",
            engine_version=deployment.engine_version or "",
            creator=deployment.creator_name or deployment.creator or "",
            labels=deployment.labels,
            jobs_by_state=jobs_by_state(deployment),
            files=_files(deployment.artifact),
        )


class JobRun(NamedTuple):
    """One run of a deployment; times in whole epoch seconds of the server's clock."""

    job_id: str
    status: str
    """``STARTING``, ``RUNNING``, …; empty where the answer did not say."""
    started_at: int | None
    ended_at: int | None
    """None while it is not over, whatever the answer says: the documents' example has an end for a running job."""
    files: tuple[FileUse, ...]

    @classmethod
    def of(cls, job: Job) -> JobRun:
        """What is kept of an element of ``ListJobs``."""
        status = (job.status.current_job_status or "").upper() if job.status else ""
        return cls(
            job_id=job.job_id,
            status=status,
            started_at=job.start_time or None,
            ended_at=(job.end_time or None) if status in OVER else None,
            files=_files(job.artifact),
        )


@dataclass(frozen=True, slots=True)
class JobsListing:
    """The jobs of one deployment at one moment: those not over first, the newest before older ones."""

    jobs: tuple[JobRun, ...]
    asked_at: float
    """Epoch seconds of our clock, before the first page was asked for: what began later may be missing."""
    complete: bool
    """Whether every job that the server had is here, but for those that ended by ``known_from``."""
    known_from: float
    """Epoch seconds of the server's clock: of the jobs that ended by then some were left out. -inf: none."""
    skew: float | None
    """Seconds the server's clock was ahead of ours; None where that is not known."""


@dataclass(frozen=True, slots=True)
class _Namespace:
    """The last word on one namespace."""

    entries: Mapping[str, CatalogEntry] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()
    """Ids of the last listing that was taken."""
    carried: Mapping[str, float] = field(default_factory=dict)
    """Entries the last listing did not have, and when they were last seen."""
    listed_at: float | None = None
    """Epoch seconds of the last listing."""
    succeeded_at: float | None = None
    """Epoch seconds of the last complete one."""
    suspicious_since: float | None = None
    """Monotonic seconds."""
    left_out: int = 0


class DeploymentCatalog:
    """Deployments by namespace and id, and the jobs of some of them."""

    def __init__(self, namespaces: Sequence[str], *, limit: int = DEPLOYMENTS, grace: float = GRACE) -> None:
        """``grace``: seconds for which a listing that lost more than half is not believed."""
        self.generation = 0
        """Grows with every listing taken in."""
        self._limit = limit
        self._grace = grace
        self._namespaces = dict.fromkeys(namespaces, _Namespace())
        self._jobs: dict[Key, JobsListing] = {}

    def __len__(self) -> int:
        """Deployments known."""
        return sum(len(one.entries) for one in self._namespaces.values())

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(self._namespaces)

    @property
    def suspicious(self) -> tuple[str, ...]:
        """Namespaces whose last listing lost too much to be believed yet."""
        return tuple(name for name, one in self._namespaces.items() if one.suspicious_since is not None)

    @property
    def left_out(self) -> int:
        """Deployments for which there was no room."""
        return sum(one.left_out for one in self._namespaces.values())

    @property
    def succeeded_at(self) -> float | None:
        """Epoch seconds by which every namespace was last listed whole; None until each was once."""
        times = [one.succeeded_at for one in self._namespaces.values()]
        known = [time for time in times if time is not None]
        return min(known) if known and len(known) == len(times) else None

    def entries(self) -> tuple[CatalogEntry, ...]:
        """Every deployment."""
        return tuple(entry for one in self._namespaces.values() for entry in one.entries.values())

    def entry(self, namespace: str, deployment_id: str) -> tuple[CatalogEntry, float] | None:
        """What is known of a deployment, and the epoch second of the listing that last had it."""
        one = self._namespaces.get(namespace)
        entry = one.entries.get(deployment_id) if one else None
        if one is None or entry is None:
            return None
        return entry, one.carried.get(deployment_id, one.listed_at or 0.0)

    def jobs(self, namespace: str, deployment_id: str) -> JobsListing | None:
        """The jobs of a deployment, if they were listed."""
        return self._jobs.get((namespace, deployment_id))

    def take_listing(
        self, namespace: str, entries: Iterable[CatalogEntry], *, complete: bool, at: float, now: float
    ) -> Verdict:
        """Take in a listing of one namespace.

        ``complete``: whether nothing of it is missing. ``at``: epoch seconds; ``now``: monotonic seconds.
        """
        before = self._namespaces[namespace]
        listed = {entry.deployment_id: entry for entry in entries}
        room = self._limit - (len(self) - len(before.entries))
        left_out = max(0, len(listed) - room)
        lost = sum(identity not in listed for identity in before.trusted)
        listed = {key: _kept(before.entries.get(key), entry) for key, entry in islice(listed.items(), max(0, room))}
        since = before.suspicious_since
        verdict: Verdict = "taken"
        if not complete:
            verdict = "incomplete"
        elif 2 * lost > len(before.trusted):
            since = now if since is None else since
            verdict = "believed" if now - since >= self._grace else "suspicious"
        carried = {}
        partial = verdict in ("incomplete", "suspicious")
        if partial:
            missing = [key for key in before.entries if key not in listed]
            last = before.listed_at or 0.0
            carried = {key: before.carried.get(key, last) for key in missing[: max(0, room - len(listed))]}
        self._namespaces[namespace] = _Namespace(
            entries=listed | {key: before.entries[key] for key in carried},
            trusted=before.trusted if partial and before.trusted else frozenset(listed),
            carried=carried,
            listed_at=at,
            succeeded_at=at if complete else before.succeeded_at,
            suspicious_since=since if partial else None,
            left_out=left_out,
        )
        self.generation += 1
        return verdict

    def take_jobs(
        self, key: Key, runs: Iterable[JobRun], *, complete: bool, asked_at: float, skew: float | None
    ) -> None:
        """Take in the jobs of one deployment; see :class:`JobsListing`."""
        jobs = sorted(runs, key=lambda run: (run.status not in OVER, run.started_at or math.inf), reverse=True)
        kept, rest = jobs[:JOBS_EACH], jobs[JOBS_EACH:]
        known_from = max([_end(run) for run in rest], default=-math.inf)
        shared = self.entry(*key)
        files = shared[0].files if shared else ()
        kept = [run._replace(files=files) if run.files == files else run for run in kept]
        self._jobs.pop(key, None)
        self._jobs[key] = JobsListing(tuple(kept), asked_at, complete, known_from, skew)
        while len(self._jobs) > LISTED_JOBS:
            del self._jobs[next(iter(self._jobs))]
        self.generation += 1


def jobs_by_state(deployment: Deployment) -> dict[str, int] | None:
    """Number of jobs by state of an element's summary; None without one."""
    summary = deployment.job_summary
    if summary is None:
        return None
    return {state: count for state, count in summary.model_dump().items() if isinstance(count, int)}


def _files(artifact: Artifact | None) -> tuple[FileUse, ...]:
    return tuple(use for use in files_of(artifact) if use is not None)


def _kept(old: CatalogEntry | None, new: CatalogEntry) -> CatalogEntry:
    """``new``, with what its listing left out as it was; ``old`` itself where they are equal."""
    if old is None:
        return new
    if new.labels is None or new.jobs_by_state is None:
        new = replace(
            new,
            labels=old.labels if new.labels is None else new.labels,
            jobs_by_state=old.jobs_by_state if new.jobs_by_state is None else new.jobs_by_state,
        )
    return old if new == old else new


def _end(run: JobRun) -> float:
    return math.inf if run.ended_at is None else float(run.ended_at)
