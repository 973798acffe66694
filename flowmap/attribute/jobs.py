"""Which jobs of a deployment may have run when a flow began, from a list of its jobs.

The list has whole seconds of the control plane's clock, flows have the clock of this host. So a job counts as running
from :data:`MARGIN` before its start to :data:`MARGIN` after its end. If two jobs fit, both are given.

A list of jobs never removes an owner. It is not documented whether ``startTime`` is the submission or the first run,
and a JobManager connects before either. Removing one of two candidates by it could leave the wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from flowmap.model.deployment import DeploymentInfo, Job, Jobs, JobSelection

MARGIN = 3.0
"""Uncertainty in seconds of a time in the list: it has whole seconds, and clocks are compared to about one second."""

UNMEASURED = 60.0
"""The same in seconds if the clocks were never compared."""


def latest(listed: Jobs) -> tuple[Job, ...]:
    """The jobs that have not ended, or else the newest one."""
    return _not_ended(listed.jobs) or listed.jobs[:1]


def placed(info: DeploymentInfo, after: float, by: float) -> DeploymentInfo:
    """``info`` with the jobs that a flow may belong to.

    The flow began in (``after``, ``by``], epoch seconds of this host's clock; ``after`` is -inf if that is unknown.
    """
    listed = info.listed
    if listed is None:
        return info
    margin = UNMEASURED if listed.skew is None else MARGIN
    skew = listed.skew or 0.0
    known = listed.complete and by + MARGIN <= listed.asked_at and after - margin + skew > listed.known_from
    if after == -math.inf or not known:
        return replace(info, jobs=_not_ended(listed.jobs), job_selection=JobSelection.RUNNING)
    ran = tuple(job for job in listed.jobs if _overlaps(job, after - margin + skew, by + margin + skew))
    return replace(info, jobs=ran, job_selection=JobSelection.AT_START)


def _not_ended(jobs: Iterable[Job]) -> tuple[Job, ...]:
    return tuple(job for job in jobs if not job.over)


def _overlaps(job: Job, first: float, last: float) -> bool:
    """Whether the job may have run between the two instants. A time that the list omits excludes nothing."""
    began = -math.inf if job.started_at is None else job.started_at
    ended = math.inf if job.ended_at is None else job.ended_at
    return began <= last and ended >= first
