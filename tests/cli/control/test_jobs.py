"""flowmap jobs."""

from __future__ import annotations

from tests.support.shell import Shell


def test_the_jobs_of_a_deployment_in_whatever_namespace(shell: Shell) -> None:
    assert shell.table("jobs", "d3") == [
        ["NAMESPACE", "JOB", "STATUS", "STARTED", "ENDED", "RESTARTS", "ENGINE", "FAILURE"],
        ["risk", "d3-j0", "RUNNING", "2023-11-14T22:13:20.000Z", "-", "0", "vvr-8.0.9-flink-1.17", "-"],
    ]
    answer = shell.json("jobs", "d1")
    assert [(job["jobId"], job["status"]["currentJobStatus"]) for job in answer["jobs"]] == [
        ("d1-j0", "RUNNING"),
        ("d1-j1", "FAILED"),
    ]
    assert shell.json("jobs", "d1", "--namespace", "risk") == {"jobs": [], "complete": True}


def test_a_namespace_that_refuses_does_not_matter_once_the_jobs_are_found(shell: Shell) -> None:
    shell.sandbox.set_faults([{"kind": "business", "times": 1}])
    assert [job["jobId"] for job in shell.json("jobs", "d3")["jobs"]] == ["d3-j0"]
    shell.sandbox.set_faults([{"kind": "business", "times": 1}])
    assert shell.run("jobs", "nobody") == 1
    assert "refused" in shell.err
