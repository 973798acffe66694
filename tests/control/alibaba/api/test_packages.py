"""Packages: one spelling for one file, what of an artifact counts, and who is found by which pattern."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.alibaba.api import packages
from flowmap.control.alibaba.api.blink import BlinkJob
from flowmap.control.alibaba.api.models import Artifact, Deployment, Job, JobStatus
from flowmap.control.alibaba.api.packages import FileUse, PackageIndex, file_name, files_of, read_uri

URIS = [
    # as named, in the one spelling, file name
    ("oss://b/a/x.jar", "oss://b/a/x.jar", "x.jar"),
    ("OSS://B/a/X.jar", "oss://b/a/X.jar", "X.jar"),
    ("https://example.com/x.jar?Expires=1&Signature=s/t", "https://example.com/x.jar", "x.jar"),
    ("https://example.com/x.jar#part", "https://example.com/x.jar", "x.jar"),
    ("https://user:word@example.com:8443/x.jar", "https://example.com:8443/x.jar", "x.jar"),
    ("oss://b/my%20job%2B1.jar", "oss://b/my job+1.jar", "my job+1.jar"),
    ("oss://b/a+b.jar", "oss://b/a+b.jar", "a+b.jar"),
    ("oss://b/%E5%90%8D.py", "oss://b/名.py", "名.py"),
    ("oss://b/a%2Fx.jar", "oss://b/a/x.jar", "x.jar"),
    ("oss://b/100%.jar", "oss://b/100%.jar", "100%.jar"),
    ("oss://b/%ff.jar", "oss://b/\ufffd.jar", "\ufffd.jar"),
    ("https://b-1.oss-cn-hangzhou.aliyuncs.com/a/x.jar", "oss://b-1/a/x.jar", "x.jar"),
    ("https://b-1.oss-cn-hangzhou-internal.aliyuncs.com:443/x.jar?t=1", "oss://b-1/x.jar", "x.jar"),
    ("oss://b-1.oss-eu-west-1.aliyuncs.com/x.jar", "oss://b-1/x.jar", "x.jar"),
    (
        "https://b.oss-cn-hangzhou.aliyuncs.com.example.com/x",
        "https://b.oss-cn-hangzhou.aliyuncs.com.example.com/x",
        "x",
    ),
    ("s3://b.oss-cn-hangzhou.aliyuncs.com/x", "s3://b.oss-cn-hangzhou.aliyuncs.com/x", "x"),
    ("x.jar", "x.jar", "x.jar"),
    (" x.jar\n", "x.jar", "x.jar"),
    ("a%20b?c#d.jar", "a%20b?c#d.jar", "a%20b?c#d.jar"),
    ("/opt/flink/usrlib/x.jar", "/opt/flink/usrlib/x.jar", "x.jar"),
    ("file:///opt/x.jar", "file:///opt/x.jar", "x.jar"),
    ("oss://bucket", "oss://bucket", ""),
    ("oss://bucket/dir/", "oss://bucket/dir/", ""),
    ("oss://bucket/?x.jar", "oss://bucket/", ""),
    ("dir/", "dir/", ""),
    ("", None, ""),
    ("   ", None, ""),
    ("x" * packages.URI_LIMIT, "x" * packages.URI_LIMIT, "x" * packages.URI_LIMIT),
    ("x" * (packages.URI_LIMIT + 1), None, ""),
]


@pytest.mark.parametrize(("text", "uri", "name"), URIS)
def test_one_spelling(text: str, uri: str | None, name: str) -> None:
    assert read_uri(text) == uri
    assert file_name(uri or "") == name


def artifact(**parts: Any) -> Artifact:
    return Artifact.model_validate(parts)


EVERYTHING: dict[str, Any] = {
    "sqlArtifact": {"sqlScript": "select 1", "additionalDependencies": ["oss://b/sql.jar"]},
    "jarArtifact": {"jarUri": "oss://b/main.jar", "additionalDependencies": ["oss://b/jar.jar"]},
    "pythonArtifact": {
        "pythonArtifactUri": "oss://b/main.py",
        "additionalDependencies": ["oss://b/python.jar"],
        "additionalPythonLibraries": ["oss://b/library.whl"],
        "additionalPythonArchives": ["oss://b/venv.zip"],
    },
    "cdcYamlArtifact": {"cdcYaml": "source: {}", "additionalDependencies": ["oss://b/cdc.jar"]},
}

BY_KIND: dict[str, list[tuple[str, str] | None]] = {
    "SQLSCRIPT": [("additionalDependencies", "sql.jar")],
    "JAR": [("jarUri", "main.jar"), ("additionalDependencies", "jar.jar")],
    "PYTHON": [
        ("pythonArtifactUri", "main.py"),
        ("additionalDependencies", "python.jar"),
        ("additionalPythonLibraries", "library.whl"),
        ("additionalPythonArchives", "venv.zip"),
    ],
    "CDCYAML": [("additionalDependencies", "cdc.jar")],
}

ALL_KINDS = [use for uses in BY_KIND.values() for use in uses]

Parts = dict[str, Any] | None

KINDS: list[tuple[Parts, list[tuple[str, str] | None]]] = [
    (None, []),
    ({}, []),
    *((EVERYTHING | {"kind": kind}, [*uses]) for kind, uses in BY_KIND.items()),
    (EVERYTHING | {"kind": "jar"}, [*BY_KIND["JAR"]]),
    (EVERYTHING, [*ALL_KINDS]),
    (EVERYTHING | {"kind": "WASM"}, [*ALL_KINDS]),
    ({"kind": "PYTHON", "jarArtifact": EVERYTHING["jarArtifact"]}, [*BY_KIND["JAR"]]),
    ({"kind": "JAR", "jarArtifact": {"entryClass": "x"}}, []),
    (
        {"kind": "JAR", "jarArtifact": {"jarUri": "oss://b/", "additionalDependencies": ["", "y"]}},
        [None, None, ("additionalDependencies", "y")],
    ),
]


@pytest.mark.parametrize(("parts", "uses"), KINDS)
def test_what_of_an_artifact_counts(parts: Parts, uses: list[tuple[str, str] | None]) -> None:
    found = list(files_of(None if parts is None else artifact(**parts)))
    assert [(use.field, use.name) if use else None for use in found] == uses


def jar(uri: str, *more: str) -> Artifact:
    return artifact(kind="JAR", jarArtifact={"jarUri": uri, "additionalDependencies": list(more)})


@pytest.fixture
def index() -> PackageIndex:
    made = PackageIndex()
    old, new = (
        "https://b-1.oss-cn-hangzhou.aliyuncs.com/lib/log4j-core-2.14.jar?Signature=x",
        "oss://b-1/lib/log4j-core-2.17.jar",
    )
    made.add_deployment(Deployment(deployment_id="d2", artifact=jar("oss://b-1/two.jar", new)), namespace="n1")
    made.add_deployment(Deployment(deployment_id="d1", artifact=jar("oss://b-1/one.jar", new)), namespace="n1")
    # d1 was changed since: its job still has the old file.
    made.add_job(Job(job_id="j1", artifact=jar("oss://b-1/one.jar", old)), namespace="n1", deployment_id="d1")
    made.add_deployment(
        Deployment(deployment_id="d3", artifact=jar("oss://b-2/lib/log4j-core-2.14.jar")), namespace="n0"
    )
    made.add_deployment(Deployment(deployment_id="d4"), namespace="n0")
    made.add_blink_job(BlinkJob(job_id="b1", packages=("log4j-core-2.14.jar",)), project="p", package="a[1].jar")
    return made


PATTERNS = [
    # pattern, users found as namespace/deployment/job
    ("one.jar", ["n1/d1/-", "n1/d1/j1"]),
    ("log4j-core-2.14.jar", ["n0/d3/-", "n1/d1/j1", "p/-/b1"]),
    ("log4j-core-*.jar", ["n0/d3/-", "n1/d1/-", "n1/d1/j1", "n1/d2/-", "p/-/b1"]),
    ("log4j-core-2.1[0-6].jar", ["n0/d3/-", "n1/d1/j1", "p/-/b1"]),
    ("???.jar", ["n1/d1/-", "n1/d1/j1", "n1/d2/-"]),
    ("oss://b-1/lib/log4j-core-2.14.jar", ["n1/d1/j1"]),
    ("OSS://B-1/lib/log4j-core-2.14.jar", ["n1/d1/j1"]),
    ("https://b-1.oss-cn-hangzhou.aliyuncs.com/lib/log4j-core-2.14.jar", ["n1/d1/j1"]),
    ("oss://b-1/lib/log4j%2Dcore-2.14.jar?versionId=3", ["n1/d1/j1"]),
    ("oss://b-1/lib/*", ["n1/d1/-", "n1/d1/j1", "n1/d2/-"]),
    ("oss://*.jar", ["n0/d3/-", "n1/d1/-", "n1/d1/-", "n1/d1/j1", "n1/d1/j1", "n1/d2/-", "n1/d2/-"]),
    ("a[1].jar", ["p/-/b1"]),
    ("ONE.jar", []),
    ("oss://b-1/LIB/log4j-core-2.14.jar", []),
    ("log4j-core", []),
    ("lib/log4j-core-2.14.jar", []),
    ("", []),
    ("x" * 5000, []),
]


@pytest.mark.parametrize(("pattern", "users"), PATTERNS)
def test_who_is_found(index: PackageIndex, pattern: str, users: list[str]) -> None:
    found = [found.user for found in index.find(pattern)]
    assert [f"{one.namespace}/{one.deployment_id or '-'}/{one.job_id or '-'}" for one in found] == users


def test_nothing_of_a_signature_is_kept(index: PackageIndex) -> None:
    assert "Signature" not in repr(index.find("*"))


def test_a_user_that_comes_again_is_the_same(index: PackageIndex) -> None:
    before = (index.uses, index.files, index.find("*"))
    again = Deployment(deployment_id="d1", name="renamed", artifact=jar("oss://b-1/one.jar"))
    index.add_deployment(again, namespace="n1")
    assert (index.uses, index.files, index.find("*")) == before


def test_names_and_states_are_told() -> None:
    index, one = PackageIndex(), jar("oss://b/x.jar")
    index.add_deployment(Deployment(deployment_id="d", name="a", artifact=one), namespace="n")
    state = JobStatus(current_job_status="RUNNING")
    index.add_job(Job(job_id="j", artifact=one, status=state), namespace="n", deployment_id="d", name="a")
    index.add_job(Job(job_id="k", artifact=one, deployment_name="b"), namespace="n", deployment_id="d", name="a")
    index.add_blink_job(BlinkJob(job_id="l", job_name="c", project_name="q"), project="p", package="x.jar")
    users = [found.user for found in index.find("x.jar")]
    assert [(one.namespace, one.name, one.status) for one in users] == [
        ("n", "a", None),
        ("n", "a", "RUNNING"),
        ("n", "b", None),
        ("q", "c", None),
    ]


def test_the_limit_is_kept_and_told() -> None:
    index = PackageIndex(limit=3)
    for number in range(3):
        uris = [f"oss://b/{number}-{letter}.jar" for letter in "ab"]
        index.add_deployment(Deployment(deployment_id=f"d{number}", artifact=jar(*uris)), namespace="n")
    index.add_deployment(Deployment(deployment_id="d0", artifact=jar("oss://b/0-a.jar", "")), namespace="n")
    assert (index.uses, index.files, index.shed) == (3, 3, 3)
    assert len(index.find("*")) == 3


@given(st.text(max_size=30) | st.from_regex(r"(oss|https)://[a-zA-Z.-]{1,9}/[ -~]{0,20}", fullmatch=True))
def test_a_file_is_found_by_what_names_it(text: str) -> None:
    index = PackageIndex()
    index.add_deployment(Deployment(deployment_id="d", artifact=jar(text)), namespace="n")
    uri = read_uri(text)
    assert index.uses == bool(uri and file_name(uri))
    if index.uses:
        (found,) = index.find(text)
        assert found.use == FileUse("jarUri", read_uri(text) or "", file_name(read_uri(text) or ""))
        assert found in index.find("*")


@given(st.from_regex(r"(oss|https)://b/[ -~]{1,20}", fullmatch=True), st.text("?&=/abc%", max_size=9))
def test_a_query_changes_nothing(uri: str, query: str) -> None:
    assert read_uri(f"{uri}?{query}") == read_uri(f"{uri}?")
