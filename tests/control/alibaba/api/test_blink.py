"""The legacy operation: its answers in all their wrappings, its parameters, and the whole way to the sandbox."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from flowmap.control.alibaba.api.blink import BlinkClient, BlinkJob, read_blink_answer
from flowmap.control.alibaba.credentials.base import StaticCredentials
from flowmap.control.clock import Clock
from flowmap.errors import AuthError, BadRequest, ConfigError, ControlError, ProtocolError
from tests.support.control_clients import key
from tests.support.sandbox import RunningSandbox

DATA = Path(__file__).parents[3] / "data/api"

JOBS = [
    {"id": f"j{number}", "project": "project1", "packages": ["package1.jar", f"own-{number}.jar"]}
    for number in range(25)
]


def read(sandbox: RunningSandbox, package: str, project: str = "project1", **options: Any) -> tuple[BlinkJob, ...]:
    async def run() -> tuple[BlinkJob, ...]:
        options.setdefault("credentials", key())
        async with BlinkClient(region="cn-hangzhou", endpoint=sandbox.url, **options) as client:
            listing = client.get_ref_package_job(project=project, package=package, page_size=10)
            jobs = await listing.all()
            assert listing.complete
            return jobs

    return asyncio.run(run())


def test_the_example_of_the_document() -> None:
    answer = read_blink_answer((DATA / "blink-jobs.json").read_bytes())
    assert (answer.total_size, answer.page_index, answer.page_size, answer.dropped) == (1, 1, 10, 0)
    (job,) = answer.items
    assert (job.job_id, job.packages) == ("9t9m6jfw8rb44iexhbpv3tnz", ("blink_test_datastream.jar",))
    assert (job.create_time, job.modify_time) == (1551161842, 1583722910)
    assert job.properties is not None and job.plan_json is not None and job.is_committed is True
    assert None not in job.model_dump().values()


JOB = {"JobId": "j"}

WRAPPINGS: list[tuple[dict[str, Any], int | None]] = [
    ({"Jobs": {"Job": [JOB]}}, 1),
    ({"Jobs": {"Job": JOB}}, 1),
    ({"Jobs": [JOB, JOB]}, 2),
    ({"Jobs": []}, 0),
    ({"Jobs": {"Job": []}}, 0),
    ({"Jobs": None, "TotalCount": 0}, 0),
    ({"Jobs": {}, "TotalCount": 0}, 0),
    ({"TotalCount": 0}, 0),
    ({"Jobs": {}}, None),
    ({"Jobs": None}, None),
    ({"Jobs": "x", "TotalCount": 0}, None),
    ({"Jobs": {"Job": 7}, "TotalCount": 1}, None),
    ({"Code": "InternalError"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("tree", "count"), WRAPPINGS, ids=str)
def test_wrappings(tree: dict[str, Any], count: int | None) -> None:
    if count is None:
        with pytest.raises(ProtocolError):
            read_blink_answer(to_json(tree))
    else:
        assert len(read_blink_answer(to_json(tree)).items) == count


@pytest.mark.parametrize(
    ("packages", "names"), [("a.jar, b.jar ,", ("a.jar", "b.jar")), ("", ()), (None, None), ("x", ("x",))]
)
def test_packages(packages: str | None, names: tuple[str, ...] | None) -> None:
    (job,) = read_blink_answer(to_json({"Jobs": [{**JOB, "Packages": packages}]})).items
    assert job.packages == names


def test_a_job_that_cannot_be_read_is_dropped_and_counted() -> None:
    jobs = [JOB, {**JOB, "Description": "rocket \ud83d"}, JOB]
    answer = read_blink_answer(json.dumps({"Jobs": jobs, "TotalCount": 3}).encode())
    assert (len(answer.items), answer.dropped, answer.total_size) == (2, 1, 3)


@given(
    st.binary(max_size=100) | st.dictionaries(st.sampled_from(["Jobs", "TotalCount", "Job"]), st.text()).map(to_json)
)
def test_any_answer(body: bytes) -> None:
    try:
        read_blink_answer(body)
    except ControlError:
        return
    pytest.fail("an answer was made of nothing")


def test_the_whole_way(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog({"blinkJobs": JOBS})
    assert [job.job_id for job in read(sandbox, "package1.jar")] == [f"j{number}" for number in range(25)]
    (job,) = read(sandbox, "own-7.jar")
    assert (job.job_id, job.project_name, job.create_time) == ("j7", "project1", 1551161842)
    assert read(sandbox, "package1.jar", "project2") == ()
    assert sandbox.requests["byOperation"] == {"GetRefPackageJob": {"all": 5}}


def test_names_that_need_encoding(sandbox: RunningSandbox) -> None:
    package = "a+b~c(1) ü*.jar"
    sandbox.set_catalog({"blinkJobs": [{"id": "j", "project": "my project", "packages": [package]}]})
    assert [job.packages for job in read(sandbox, package, "my project")] == [(package,)]


def test_refusals(sandbox: RunningSandbox) -> None:
    sandbox.set_faults([{"kind": "malformed", "times": 1}, {"kind": "error", "times": 1}])
    assert read(sandbox, "package1.jar") == ()
    for credentials in (StaticCredentials("nobody", "x"), StaticCredentials("sandbox-access-key", "wrong")):
        with pytest.raises(AuthError):
            read(sandbox, "package1.jar", credentials=credentials)
    assert read(sandbox, "package1.jar", clock=Clock(wall=lambda: 1e9)) == ()  # corrected by the Date header


@pytest.mark.parametrize(
    ("project", "package", "named"),
    [
        ("", "p", "project"),
        ("..", "p", "project"),
        ("a/b", "p", "project"),
        ("a", "p?x", "package"),
        ("a", "p%2F", "package"),
        ("a", "p#", "package"),
        ("a", "p\n", "package"),
    ],
)
def test_bad_names(sandbox: RunningSandbox, project: str, package: str, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        read(sandbox, package, project)
    assert sandbox.requests["total"] == 0


def test_bad_regions() -> None:
    for region in ("", "cn hangzhou", "x\r\n"):
        with pytest.raises(ConfigError, match="region"):
            BlinkClient(region=region, credentials=key())
