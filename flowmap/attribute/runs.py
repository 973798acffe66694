"""Whether a connection is older than the run of the job that owns it, from the list of a deployment's jobs.

The list has whole seconds of the control plane's clock, see :mod:`flowmap.attribute.jobs`. So a connection counts as
older only if it began before the start of the oldest running job by more than the uncertainty. A restart within one job
(a failover) has no entry in the list: connections that it leaves are not found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from flowmap.attribute.jobs import MARGIN, UNMEASURED
from flowmap.model.deployment import DeploymentInfo


class Run(NamedTuple):
    """What is known of the jobs of the deployments that may own a connection; seconds since the epoch, host's clock."""

    stale_before: float
    """A connection that began before is of no run that is listed. -inf: not known."""
    started_at: float | None
    """Start of the oldest running job; None if none runs, or if it is not known."""
    ended: bool
    """Whether no job of any of the deployments runs."""

    @property
    def known(self) -> bool:
        return self.stale_before != -math.inf


UNKNOWN = Run(-math.inf, None, False)


def run_of(infos: Iterable[DeploymentInfo]) -> Run:
    """The run of one deployment; for several candidates what holds whichever of them owns the connection."""
    runs = [_of_one(info) for info in infos]
    if not runs or not all(run.known for run in runs):
        return UNKNOWN
    starts = [run.started_at for run in runs if run.started_at is not None]
    ended = all(run.ended for run in runs)
    return Run(min(run.stale_before for run in runs), min(starts, default=None), ended)


def _of_one(info: DeploymentInfo) -> Run:
    listed = info.listed
    if listed is None or not listed.jobs:
        return UNKNOWN
    margin = UNMEASURED if listed.skew is None else MARGIN
    running = [job for job in listed.jobs if not job.over]
    if not running:  # a job that began after the list was read may own later connections
        return Run(listed.asked_at - margin, None, True) if listed.complete else UNKNOWN
    starts = [job.started_at for job in running]
    if any(start is None for start in starts):
        return UNKNOWN
    begun = min(start for start in starts if start is not None) - (listed.skew or 0.0)
    return Run(begun - margin, begun, False)
