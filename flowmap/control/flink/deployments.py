"""What a deployment of open-source Flink is: jobs of one name, a cluster, or a single job."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from flowmap.control.flink.records import ListedJob
from flowmap.control.port import ListedDeployment
from flowmap.model.deployment import ENDED, FLINK, Job, Owner

IdentityKind = Literal["job_name", "application", "cluster", "job_id"]
"""``job_name``: jobs of one name in a cluster. ``application``: an application cluster, and in a session cluster as
``job_name``. ``cluster``: everything in a cluster. ``job_id``: a single submission."""


@dataclass(slots=True)
class Identity:
    """Which deployment a job belongs to."""

    kind: IdentityKind = "job_name"
    applications: set[str] = field(default_factory=set)
    """Clusters that run one application."""

    def owner(self, cluster: str, job_id: str, name: str) -> Owner:
        """The deployment of a job."""
        if self.kind == "cluster" or (self.kind == "application" and cluster in self.applications):
            return Owner(FLINK, cluster, cluster, cluster)
        return Owner(FLINK, cluster, job_id if self.kind == "job_id" else name, name)


def listed_deployments(
    jobs: Iterable[tuple[Owner, ListedJob]], version: str, *, resources: Mapping[str, str] = MappingProxyType({})
) -> tuple[ListedDeployment, ...]:
    """The deployments that the jobs make, in the order of their names. ``resources``: FlinkSessionJobs by job id."""
    by_owner: defaultdict[Owner, list[ListedJob]] = defaultdict(list)
    for owner, job in jobs:
        by_owner[owner].append(job)
    return tuple(
        ListedDeployment(
            owner,
            execution_mode=own[-1].mode,
            engine_version=f"flink-{version}" if version else "",
            labels={"cluster": owner.namespace, **_resource(own, resources)},
            jobs_by_state=Counter(status_of(job).lower() for job in own),
        )
        for owner, own in sorted(by_owner.items())
    )


def _resource(jobs: Sequence[ListedJob], resources: Mapping[str, str]) -> Mapping[str, str]:
    names = [resources[job.id] for job in jobs if job.id in resources]
    return {"flinksessionjob": names[-1]} if names else {}


def described_job(job: ListedJob) -> Job:
    """A job as the port describes it."""
    status = status_of(job)
    return Job(job.id, status, job.started_at, job.ended_at, over=status in ENDED)


def file_name_of_jar(name: str) -> str:
    """The name under which a jar was uploaded: Flink puts a UUID and ``_`` before it."""
    return name[37:] if len(name) > 37 and name[36] == "_" else name


def status_of(job: ListedJob) -> str:
    """The state of a job; Flink writes CANCELED where the port has CANCELLED."""
    return "CANCELLED" if job.state == "CANCELED" else job.state
