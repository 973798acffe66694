"""The vendor's own SDKs as oracle, in both directions (extra ``oracle``; skipped without it).

Their client, pointed at the sandbox, gets right answers; what flowmap sends verifies with their signing code; and
every answer of the sandbox says the same to their models and to ours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest

from flowmap.control.alibaba.api.blink import BlinkClient, read_blink_answer
from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.api.envelope import read_answer
from flowmap.control.alibaba.api.models import Deployment, Job
from flowmap.control.alibaba.credentials.chain import CredentialsChain
from flowmap.control.http.transport import HttpTransport
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET, SignedRequest
from tests.support.control_clients import ask, key
from tests.support.sandbox import RunningSandbox, running_sandbox

tea_client = pytest.importorskip("alibabacloud_ververica20220718.client", reason="needs the extra oracle")
tea_models = pytest.importorskip("alibabacloud_ververica20220718.models")
tea_config = pytest.importorskip("alibabacloud_tea_openapi.models")
tea_utils = pytest.importorskip("alibabacloud_tea_openapi.utils")
darabonba = pytest.importorskip("darabonba.request")
legacy_core = pytest.importorskip("aliyunsdkcore.client")
legacy_foas = pytest.importorskip("aliyunsdkfoas.request.v20181111.GetRefPackageJobRequest")
legacy_signer = pytest.importorskip("aliyunsdkcore.auth.composer.roa_signature_composer")
legacy_algorithm = pytest.importorskip("aliyunsdkcore.auth.algorithm.sha_hmac1")
tea_runtime = pytest.importorskip("darabonba.runtime")

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDKs warn about themselves

NAMESPACES = ("default-namespace", "a b/c+d~ü*'()!", "100%")

AWKWARD = "a b+c~d*e!f'g(h)i/j?k=l&m#n%o@p:q$r名前"

CATALOG = {
    "workspace": "w-1",
    "namespaces": NAMESPACES,
    "deployments": [
        {
            "id": f"d{number}",
            "name": f"deployment {number}",
            "namespace": NAMESPACES[number % 3],
            "labels": {"team": f"t{number % 2}", "tier": 2, "awkward": AWKWARD},
            "addresses": ["10.0.0.1", "2001:db8::1"],
            "writes": ["[2001:db8::9]:9092", "10.9.0.1:9092"],
            "artifact": {
                "kind": "JAR",
                "jarArtifact": {"jarUri": "oss://b/x.jar", "additionalDependencies": ["y.jar"]},
            },
            "jobs": [
                {"id": f"j{number}-{run}", "status": "RUNNING" if run == 2 else "FAILED", "startTime": 1000 * run}
                for run in range(3)
            ],
        }
        for number in range(30)
    ],
    "blinkJobs": [{"id": f"b{number}", "project": "my project", "packages": ["a+b~c(1).jar"]} for number in range(12)],
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(CATALOG) as running:
        yield running


class Sdk:
    """The SDK's client at the sandbox."""

    def __init__(self, url: str) -> None:
        self._runtime = tea_runtime.RuntimeOptions()
        self.headers: dict[str, Any] = {"workspace": "w-1"}
        config = tea_config.Config(
            access_key_id=ACCESS_KEY_ID,
            access_key_secret=ACCESS_KEY_SECRET,
            endpoint=url.removeprefix("http://"),
            protocol="http",
        )
        self._client = tea_client.Client(config)

    def ask(self, operation: str, namespace: str, **parameters: Any) -> Any:
        name = "".join(word.capitalize() for word in operation.split("_"))
        headers = getattr(tea_models, f"{name}Headers")(**self.headers)
        request = getattr(tea_models, f"{name}Request")(**parameters)
        return getattr(self._client, f"{operation}_with_options")(namespace, request, headers, self._runtime).body


BY_IP: list[tuple[dict[str, Any], int]] = [
    ({"src_ip": "10.0.0.1"}, 10),
    ({"src_ip": "2001:db8::1"}, 10),
    ({"dst_ip": "2001:db8::9", "dst_port": "9092"}, 10),
    ({"src_ip": "10.0.0.1", "src_port": "4000", "dst_ip": "10.9.0.1", "dst_port": "9092"}, 10),
    ({"dst_ip": "10.9.0.1", "dst_port": "9092", "ignore_job_summary": True, "ignore_resource_setting": True}, 10),
    ({"dst_ip": "10.9.0.2"}, 0),
]


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(("parameters", "count"), BY_IP, ids=str)
def test_the_sdk_is_answered_by_ip(
    sandbox: RunningSandbox, namespace: str, parameters: dict[str, Any], count: int
) -> None:
    body = Sdk(sandbox.url).ask("get_deployments_by_ip", namespace, **parameters)
    assert body.success is True and len(body.data) == count
    assert all(item.namespace == namespace for item in body.data)


def test_the_sdk_is_answered_by_label(sandbox: RunningSandbox) -> None:
    sdk = Sdk(sandbox.url)
    for value, count in (("t0,t1", 10), ("t1", 5), (AWKWARD, 0)):
        body = sdk.ask("get_deployments_by_label", "default-namespace", label_key="team", label_value=value)
        assert (body.success, len(body.data)) == (True, count)
    body = sdk.ask("get_deployments_by_label", "default-namespace", label_key="awkward", label_value=AWKWARD)
    assert len(body.data) == 10


def test_the_sdk_is_answered_with_lists(sandbox: RunningSandbox) -> None:
    sdk = Sdk(sandbox.url)
    pages = [
        sdk.ask("list_deployments", "default-namespace", page_index=index, page_size=4, sort_name="gmt_create")
        for index in (1, 2, 3)
    ]
    assert [len(page.data) for page in pages] == [4, 4, 2]
    assert {page.total_size for page in pages} == {10}
    jobs = sdk.ask("list_jobs", "default-namespace", deployment_id="d3", page_size=2)
    assert ([job.job_id for job in jobs.data], jobs.total_size) == (["j3-0", "j3-1"], 3)


def test_the_sdk_is_refused_what_flowmap_is(sandbox: RunningSandbox) -> None:
    sdk = Sdk(sandbox.url)
    sdk.headers = {"workspace": "elsewhere"}
    assert sdk.ask("get_deployments_by_ip", "default-namespace", src_ip="10.0.0.1").success is False
    sdk.headers = {}
    with pytest.raises(Exception, match="MissingWorkspace"):
        sdk.ask("get_deployments_by_ip", "default-namespace", src_ip="10.0.0.1")


Question = Callable[[ControlClient], Awaitable[object]]

QUESTIONS: list[tuple[str, Question]] = [
    ("ipv6", lambda c: c.get_deployments_by_ip(namespace=NAMESPACES[1], src_ip="2001:db8::1", src_port=4000)),
    ("plain", lambda c: c.get_deployments_by_ip(namespace=NAMESPACES[0], dst_ip="10.9.0.1", dst_port=9092)),
    (
        "label",
        lambda c: c.get_deployments_by_label(namespace=NAMESPACES[2], key="awkward", values=[AWKWARD, "~*+,"[:3]]),
    ),
    ("list", lambda c: c.list_deployments(namespace=NAMESPACES[1], label=("awkward", [AWKWARD, "a,b"])).all()),
    ("name", lambda c: c.list_deployments(namespace=NAMESPACES[0], name=AWKWARD).all()),
    ("jobs", lambda c: c.list_jobs(namespace=NAMESPACES[0], deployment_id="d0").all()),
]


@pytest.mark.parametrize(("name", "question"), QUESTIONS, ids=[name for name, _ in QUESTIONS])
def test_what_flowmap_sends_verifies_with_the_sdk(sandbox: RunningSandbox, name: str, question: Question) -> None:
    sandbox.recorded.clear()
    ask(sandbox.url, question, workspace="w-1")
    assert sandbox.recorded
    for request in sandbox.recorded:
        assert sdk_signature(request) == request.headers["authorization"]


def sdk_signature(request: SignedRequest) -> str:
    """What the SDK would have put into ``Authorization`` for the request that was received."""
    signed = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    made = darabonba.DaraRequest()
    made.method = request.method
    made.pathname = request.path
    made.query = dict(parse_qsl(request.query, keep_blank_values=True))
    made.headers = {name: request.headers[name] for name in signed}
    digest = request.headers["x-acs-content-sha256"]
    return str(tea_utils.Utils.get_authorization(made, "ACS3-HMAC-SHA256", digest, ACCESS_KEY_ID, ACCESS_KEY_SECRET))


def legacy_request(project: str, package: str, size: int) -> Any:
    request = legacy_foas.GetRefPackageJobRequest()
    request.set_projectName(project)
    request.set_packageName(package)
    request.set_pageSize(size)
    request.set_pageIndex(1)
    request.set_accept_format("json")
    request.set_protocol_type("http")
    return request


def test_the_legacy_sdk_is_answered(sandbox: RunningSandbox) -> None:
    client = legacy_core.AcsClient(ACCESS_KEY_ID, ACCESS_KEY_SECRET, "cn-hangzhou")
    request = legacy_request("my project", "a+b~c(1).jar", 10)
    request.set_endpoint(sandbox.url.removeprefix("http://"))
    tree = json.loads(client.do_action_with_exception(request))
    assert [job["JobId"] for job in tree["Jobs"]["Job"]] == [f"b{number}" for number in range(10)]
    assert (tree["TotalCount"], tree["TotalPage"]) == (12, 2)


def test_what_flowmap_sends_verifies_with_the_legacy_sdk(sandbox: RunningSandbox) -> None:
    sandbox.recorded.clear()

    async def run() -> None:
        async with BlinkClient(region="cn-hangzhou", endpoint=sandbox.url, credentials=key()) as client:
            assert len(await client.get_ref_package_job(project="my project", package="a+b~c(1).jar").all()) == 12

    asyncio.run(run())
    (received,) = sandbox.recorded
    given = received.headers
    assert parsedate_to_datetime(given["date"]).tzinfo is not None
    # The SDK's composer wants the two plain headers capitalised, and the path raw.
    headers = {**given, "Accept": given["accept"], "Date": given["date"]}
    query = dict(parse_qsl(received.query))
    text = legacy_signer.compose_string_to_sign("GET", query, unquote(received.path), headers)
    signature = legacy_algorithm.get_sign_string(text, ACCESS_KEY_SECRET)
    assert given["authorization"] == f"acs {ACCESS_KEY_ID}:{signature}"


def same(theirs: Any, ours: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where the SDK's value and ours differ, apart from what flowmap normalises on purpose."""
    name = place.rpartition(".")[2]
    if name in ("createdAt", "modifiedAt"):
        if int(theirs) != ours:
            yield place, theirs, ours
    elif place.startswith(".labels."):
        if str(theirs) != ours:
            yield place, theirs, ours
    elif name == "sessionClusterName":
        if (None if theirs == "null" else theirs) != ours:
            yield place, theirs, ours
    elif isinstance(theirs, dict) and isinstance(ours, dict):
        for part in theirs.keys() | ours.keys():
            yield from same(theirs.get(part), ours.get(part), f"{place}.{part}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for position, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            yield from same(a, b, f"{place}[{position}]")
    elif theirs != ours:
        yield place, theirs, ours


ANSWERS: list[tuple[str, type[Deployment] | type[Job], dict[str, Any]]] = [
    ("get_deployments_by_ip", Deployment, {"src_ip": "10.0.0.1"}),
    ("get_deployments_by_label", Deployment, {"label_key": "team", "label_value": "t0"}),
    ("list_deployments", Deployment, {"page_size": 100}),
    ("list_jobs", Job, {"deployment_id": "d0"}),
]


@pytest.mark.parametrize(("operation", "model", "parameters"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_answer_says_the_same_to_both(
    sandbox: RunningSandbox, operation: str, model: type[Deployment] | type[Job], parameters: dict[str, Any]
) -> None:
    body = Sdk(sandbox.url).ask(operation, "default-namespace", **parameters)
    theirs = [item.to_map() for item in body.data]
    ours = read_answer(json.dumps(body.to_map()).encode(), model)
    assert len(theirs) == len(ours.items) > 0 and ours.dropped == 0
    for item, read in zip(theirs, ours.items, strict=True):
        assert not list(same(item, read.model_dump(mode="json", by_alias=True, exclude_none=True)))


def test_every_field_of_the_sdk_is_one_of_ours() -> None:
    pairs: list[tuple[Any, Any]] = [(tea_models.Deployment, Deployment), (tea_models.Job, Job)]
    for theirs, ours in pairs:
        named = {name for name in vars(theirs()) if not name.startswith("_")}
        assert named <= {field.name for field in dataclasses.fields(ours)}, theirs


def test_the_blink_answer_of_the_sandbox_is_read(sandbox: RunningSandbox) -> None:
    client = legacy_core.AcsClient(ACCESS_KEY_ID, ACCESS_KEY_SECRET, "cn-hangzhou")
    request = legacy_request("my project", "a+b~c(1).jar", 50)
    request.set_endpoint(sandbox.url.removeprefix("http://"))
    body = client.do_action_with_exception(request)
    assert len(read_blink_answer(body).items) == len(json.loads(body)["Jobs"]["Job"]) == 12


def test_the_vendor_library_gives_keys_for_profiles_of_its_own(tmp_path: Path) -> None:
    command = """echo '{"mode": "AK", "access_key_id": "ext-id", "access_key_secret": "ext-secret"}'"""
    profile = {"name": "ext", "mode": "External", "process_command": command}
    (tmp_path / ".aliyun").mkdir()
    (tmp_path / ".aliyun/config.json").write_text(json.dumps({"current": "ext", "profiles": [profile]}))
    chain = CredentialsChain(transport=HttpTransport(), environ={}, home=tmp_path)
    found = asyncio.run(chain.get())
    assert (found.access_key_id, found.access_key_secret, found.security_token) == ("ext-id", "ext-secret", None)
    assert "External" in found.origin and "ext-secret" not in repr(found)
