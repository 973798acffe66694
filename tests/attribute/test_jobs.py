"""On which job a flow is placed: whole rows, and that no list of jobs, however it looks, makes a guess."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.attribute.jobs import MARGIN, UNMEASURED, latest, placed
from flowmap.model.deployment import DeploymentInfo, Job, Jobs, JobSelection, Owner

OWNER = Owner("w", "ns", "id", "name")
OLD = Job("old", "FINISHED", 100, 200, over=True)
SECOND = Job("second", "FAILED", 200, 300, over=True)
NOW = Job("now", "RUNNING", 400)
UNTOLD = Job("untold", "")
NO_END = Job("no-end", "CANCELLED", 100, None, over=True)
NEVER, INF = float("-inf"), math.inf


def listed(*jobs: Job, complete: bool = True, known_from: float = NEVER, skew: float | None = 0.0) -> Jobs:
    return Jobs(jobs, 1000.0, complete, known_from, skew)


START, RUN = JobSelection.AT_START, JobSelection.RUNNING

ROWS: list[tuple[Jobs, float, float, JobSelection, str]] = [
    # the list (asked for at 1000), the flow began after and by, what the jobs are, and which
    (listed(NOW, OLD), 500, 501, START, "now"),
    (listed(NOW, OLD), 150, 151, START, "old"),
    (listed(NOW, SECOND, OLD), 250, 251, START, "second"),
    (listed(NOW, OLD), 300, 301, START, ""),  # between two jobs: none is known
    (listed(OLD), 300, 301, START, ""),
    (listed(), 300, 301, START, ""),
    # at the seam of two both may be, and a start that is known only roughly spans several
    (listed(NOW, SECOND, OLD), 199, 201, START, "second old"),
    (listed(NOW, SECOND, OLD), 150, 450, START, "now second old"),
    (listed(OLD), 200 + MARGIN - 0.1, 250, START, "old"),
    (listed(OLD), 200 + MARGIN + 0.1, 250, START, ""),
    (listed(OLD), 50, 100 - MARGIN, START, "old"),
    (listed(OLD), 50, 100 - MARGIN - 0.1, START, ""),
    # times that were not told exclude nothing
    (listed(NOW, UNTOLD, OLD), 150, 151, START, "untold old"),
    (listed(NOW, NO_END), 900, 901, START, "now no-end"),
    # the control plane's clock: a minute ahead, not compared
    (listed(NOW, OLD, skew=60.0), 350, 351, START, "now"),
    (listed(NOW, OLD, skew=-60.0), 350, 351, START, ""),
    (listed(NOW, OLD, skew=None), 400 - UNMEASURED, 400 - UNMEASURED, START, "now"),
    # the start is not known, or later than the list, or the list has gaps where it would have to be
    (listed(NOW, OLD), NEVER, 900, RUN, "now"),
    (listed(NOW, OLD), 999, 1000, RUN, "now"),
    (listed(NOW, OLD), 990, 1000 - MARGIN, START, "now"),
    (listed(OLD), 1100, 1101, RUN, ""),
    (listed(NOW, OLD, complete=False), 500, 501, RUN, "now"),
    (listed(NOW, OLD, known_from=100), 120, 121, START, "old"),
    (listed(NOW, OLD, known_from=130), 120, 121, RUN, "now"),
    (listed(NOW, OLD, known_from=INF), 500, 501, RUN, "now"),
]


@pytest.mark.parametrize(("jobs", "after", "by", "are", "which"), ROWS)
def test_placed(jobs: Jobs, after: float, by: float, are: JobSelection, which: str) -> None:
    info = placed(DeploymentInfo(OWNER, listed=jobs), after, by)
    assert (info.job_selection, " ".join(job.job_id for job in info.jobs)) == (are, which)


def test_without_a_list_there_is_nothing_to_place_on() -> None:
    info = DeploymentInfo(OWNER)
    assert placed(info, 1, 2) == info
    assert info.job_selection is JobSelection.UNLISTED


@pytest.mark.parametrize(
    ("jobs", "expected"), [((), ()), ((OLD,), (OLD,)), ((SECOND, OLD), (SECOND,)), ((NOW, UNTOLD, OLD), (NOW, UNTOLD))]
)
def test_latest(jobs: tuple[Job, ...], expected: tuple[Job, ...]) -> None:
    assert latest(listed(*jobs)) == expected


times = st.integers(0, 900)


@given(st.lists(st.tuples(times, st.integers(0, 300)), max_size=6), st.data(), st.floats(-120, 120), st.floats(0, 0.99))
def test_true_job_is_always_given(spans: list[tuple[int, int]], data: st.DataObject, skew: float, cut: float) -> None:
    """True times are cut to whole seconds of a clock that is off, and compared with an error below a second."""
    jobs = tuple(
        Job(f"job-{n}", "FINISHED", int(start + cut + skew), int(start + cut + length + skew), over=True)
        for n, (start, length) in enumerate(spans)
    )
    measured = skew + data.draw(st.floats(-0.9, 0.9))
    listing = Jobs(jobs, 2000.0, True, NEVER, measured)
    for n, (start, length) in enumerate(spans):
        began = start + cut + data.draw(st.floats(0, 1)) * length
        after = began - data.draw(st.floats(0, 50))
        info = placed(DeploymentInfo(OWNER, listed=listing), after, began)
        assert info.job_selection is JobSelection.AT_START
        assert f"job-{n}" in {job.job_id for job in info.jobs}
