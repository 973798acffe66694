"""The search for users of a file."""

from __future__ import annotations

import pytest

from flowmap.cli.control.package_search import may_have_jobs
from flowmap.control.alibaba.api.models import JobSummary
from tests.support.shell import Shell


@pytest.mark.parametrize("file", ["", " ", "x" * 5000])
def test_what_names_no_file(shell: Shell, file: str) -> None:
    assert shell.run("package-users", file) == 1
    assert shell.err == "flowmap: FILE_NAME: empty, or too long for a file name\n"
    # The first call there would be; a late one for jobs may be left from a command that ended before.
    assert "ListDeployments" not in shell.asked()


SUMMARIES = [
    (None, True),
    (JobSummary(), True),
    (JobSummary(starting=0, running=0, cancelling=0, cancelled=0, finished=0), True),
    (JobSummary(starting=0, running=0, cancelling=0, cancelled=0, finished=0, failed=0), False),
    (JobSummary(starting=0, running=0, cancelling=0, cancelled=0, finished=0, failed=1), True),
]


@pytest.mark.parametrize(("summary", "expected"), SUMMARIES)
def test_only_who_surely_has_no_job_is_not_asked(summary: JobSummary | None, expected: bool) -> None:
    assert may_have_jobs(summary) is expected
