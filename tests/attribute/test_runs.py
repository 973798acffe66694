"""Whether a connection is older than the run that owns it."""

from __future__ import annotations

import math

import pytest

from flowmap.attribute.jobs import MARGIN, UNMEASURED
from flowmap.attribute.runs import UNKNOWN, Run, run_of
from flowmap.model.deployment import DeploymentInfo, Job, Jobs, Owner

OWNER = Owner("w", "ns", "id", "name")
RUNNING, LATER = Job("a", "RUNNING", 1000.0), Job("b", "RUNNING", 2000.0)
ENDED, WITHOUT_START = Job("c", "FINISHED", 1.0, 900.0, over=True), Job("d", "RUNNING")


def info(*jobs: Job, complete: bool = True, skew: float | None = 0.0) -> DeploymentInfo:
    return DeploymentInfo(OWNER, listed=Jobs(jobs, 3000.0, complete, 0.0, skew))


RUNS = [
    ([DeploymentInfo(OWNER)], UNKNOWN),  # not listed
    ([info()], UNKNOWN),  # never ran
    ([info(WITHOUT_START)], UNKNOWN),
    ([info(RUNNING, WITHOUT_START)], UNKNOWN),
    ([info(ENDED, complete=False)], UNKNOWN),  # the running one may be missing
    ([info(RUNNING)], Run(1000 - MARGIN, 1000.0, False)),
    ([info(RUNNING, LATER, ENDED)], Run(1000 - MARGIN, 1000.0, False)),
    ([info(RUNNING, skew=50.0)], Run(950 - MARGIN, 950.0, False)),  # by this host's clock
    ([info(RUNNING, skew=None)], Run(1000 - UNMEASURED, 1000.0, False)),
    ([info(ENDED)], Run(3000 - MARGIN, None, True)),  # a later job may have begun after the list
    # of candidates the one with the oldest run may own the connection
    ([info(RUNNING), info(LATER)], Run(1000 - MARGIN, 1000.0, False)),
    ([info(ENDED), info(LATER)], Run(2000 - MARGIN, 2000.0, False)),
    ([info(ENDED), info(ENDED)], Run(3000 - MARGIN, None, True)),
    ([info(RUNNING), DeploymentInfo(OWNER)], UNKNOWN),
    ([], UNKNOWN),
]


@pytest.mark.parametrize(("infos", "expected"), RUNS)
def test_runs(infos: list[DeploymentInfo], expected: Run) -> None:
    assert run_of(infos) == expected
    assert run_of(reversed(infos)) == expected
    assert expected.known == (expected.stale_before != -math.inf)
