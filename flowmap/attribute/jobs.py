"""Which of a deployment's jobs ran when, as far as a list of its jobs can tell.

The list has whole seconds of the control plane's clock, flows have ours. So a job counts as running from a little
before its start to a little after its end; where that leaves two jobs for a moment, both are given.

No owner is ruled out by such a list. It is not documented whether ``startTime`` is when a job was submitted or when it
ran, a JobManager connects before either, and of two possible owners the one left over would get the other's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from flowmap.model.deployment import DeploymentInfo, Job, Jobs, JobSelection

MARGIN = 3.0
"""Seconds of doubt about a time of the list: cut to whole seconds, and the clocks compared to about one."""

UNMEASURED = 60.0
"""The same where the clocks were never compared."""


def latest(listed: Jobs) -> tuple[Job, ...]:
    """The jobs that are not over, or else the last."""
    return _not_over(listed.jobs) or listed.jobs[:1]


def placed(info: DeploymentInfo, after: float, by: float) -> DeploymentInfo:
    """``info`` with the jobs a flow may belong to that began in (``after``, ``by``], epoch seconds of our clock.

    ``after`` is -inf for a flow of which it is not known when it began.
    """
    listed = info.listed
    if listed is None:
        return info
    margin = UNMEASURED if listed.skew is None else MARGIN
    skew = listed.skew or 0.0
    told = listed.complete and by + MARGIN <= listed.asked_at and after - margin + skew > listed.known_from
    if after == -math.inf or not told:
        return replace(info, jobs=_not_over(listed.jobs), job_selection=JobSelection.RUNNING)
    ran = tuple(job for job in listed.jobs if _overlaps(job, after - margin + skew, by + margin + skew))
    return replace(info, jobs=ran, job_selection=JobSelection.AT_START)


def _not_over(jobs: Iterable[Job]) -> tuple[Job, ...]:
    return tuple(job for job in jobs if not job.over)


def _overlaps(job: Job, first: float, last: float) -> bool:
    """Whether the job may have run at a moment between the two. Of what the list does not tell, everything may be."""
    began = -math.inf if job.started_at is None else job.started_at
    ended = math.inf if job.ended_at is None else job.ended_at
    return began <= last and ended >= first
