"""The client against the embedded control plane, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
from flowmap.control.alibaba.credentials.base import Credentials, StaticCredentials
from flowmap.control.clock import Clock
from flowmap.control.http.transport import HttpTransport
from flowmap.errors import (
    AuthError,
    BadRequest,
    BusinessError,
    ConfigError,
    ControlError,
    ProtocolError,
    Throttled,
    Transient,
)
from flowmap.sandbox.verify import ACCESS_KEY_ID, AccessKey
from tests.support.control_clients import NAMESPACE, ask, everything_of, key
from tests.support.sandbox import RunningSandbox, running_sandbox

KAFKA = {"dst_ip": "127.0.2.1", "dst_port": 9092}


async def who(client: ControlClient, **question: Any) -> DeploymentsAnswer:
    return await client.get_deployments_by_ip(namespace=NAMESPACE, **(question or KAFKA))


def names(answer: DeploymentsAnswer) -> list[str | None]:
    return [deployment.name for deployment in answer.deployments]


def test_a_question_is_answered(sandbox: RunningSandbox) -> None:
    answer = ask(sandbox.url, who)
    assert names(answer) == ["orders-ingest", "fraud-detection", "orders-report"]
    assert answer.dropped == 0 and answer.request_id and answer.asked_at <= answer.answered_at
    first = answer.deployments[0]
    assert first.labels == {"team": "orders"} and first.created_at == 1_700_000_000
    assert first.job_summary is not None and first.job_summary.running == 1
    assert first.streaming_resource_setting is None  # left out unless asked for
    assert sandbox.requests["byOperation"] == {"GetDeploymentsByIp": {"sink": 1}}


def test_no_match_is_an_answer(sandbox: RunningSandbox) -> None:
    answer = ask(sandbox.url, lambda client: who(client, src_ip="127.0.9.9"))
    assert answer.deployments == () and answer.dropped == 0


@pytest.mark.parametrize(
    "question",
    [
        {"src_ip": "127.0.1.1", "src_port": 40000, "dst_ip": "127.0.2.1", "dst_port": 9092},
        {"src_ip": "2001:DB8::1"},
        {"src_ip": "::ffff:127.0.1.1"},
        {"dst_ip": "127.0.2.1", "ignore_job_summary": True, "ignore_resource_setting": False},
        {"dst_ip": "127.0.2.1", "ignore_job_summary": False, "ignore_resource_setting": None},
    ],
)
def test_sent_target_is_signed(sandbox: RunningSandbox, question: dict[str, Any]) -> None:
    ask(sandbox.url, lambda client: who(client, **question))
    (request,) = sandbox.recorded
    assert request.query == "&".join(sorted(request.query.split("&")))
    assert "True" not in request.query and "ffff" not in request.query and "DB8" not in request.query
    names_sent = {name for name, _ in request.header_list}
    assert names_sent >= {"host", "workspace", "x-acs-action", "accept", "user-agent"}
    assert not names_sent & {"content-type", "content-length", "x-acs-security-token", "x-acs-accesskey-id"}


@pytest.mark.parametrize("namespace", ["a/b", "a b+c~d*e", "名前", "%2F", "x'()!;,:@&=?#"])
def test_awkward_namespaces_arrive_whole(namespace: str) -> None:
    entry = {"id": "d", "name": "n", "namespace": namespace, "addresses": ["127.0.1.1"]}
    with running_sandbox({"namespaces": [namespace], "deployments": [entry]}) as sandbox:
        answer = ask(sandbox.url, lambda c: c.get_deployments_by_ip(namespace=namespace, src_ip="127.0.1.1"))
    assert [deployment.namespace for deployment in answer.deployments] == [namespace]


def test_a_temporary_key_sends_its_token() -> None:
    keys = {"STS.x": AccessKey("secret", "tok+en/==")}
    with running_sandbox(keys=keys) as sandbox:
        answer = ask(sandbox.url, who, credentials=StaticCredentials("STS.x", "secret", "tok+en/=="))
        assert len(answer.deployments) == 3
        with pytest.raises(AuthError, match="InvalidSecurityToken"):
            ask(sandbox.url, who, credentials=StaticCredentials("STS.x", "secret", "other"))
        with pytest.raises(AuthError, match="MissingSecurityToken"):
            ask(sandbox.url, who, credentials=StaticCredentials("STS.x", "secret", ""))


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"credentials": StaticCredentials("nobody", "x")}, AuthError, "InvalidAccessKeyId.NotFound"),
        ({"credentials": StaticCredentials(ACCESS_KEY_ID, "x")}, AuthError, "SignatureDoesNotMatch"),
        ({"workspace": "elsewhere"}, BusinessError, "NotFound"),
    ],
)
def test_refusals_of_the_sandbox(
    sandbox: RunningSandbox, options: dict[str, Any], error: type[ControlError], code: str
) -> None:
    with pytest.raises(error) as caught:
        ask(sandbox.url, who, **options)
    assert caught.value.code == code


def test_a_wrong_clock_is_corrected_by_the_date_header(sandbox: RunningSandbox) -> None:
    assert names(ask(sandbox.url, who, clock=Clock(wall=lambda: 0.0)))
    assert sandbox.refused == {"InvalidTimeStamp.Expired": 1}


FAULTS: list[tuple[dict[str, Any], type[ControlError] | None]] = [
    ({"kind": "latency", "seconds": 0.05}, None),
    ({"kind": "gzip"}, None),
    ({"kind": "bom"}, None),
    ({"kind": "clock", "seconds": 4000}, None),
    ({"kind": "throttle", "times": 1, "retryAfterMs": 50}, None),
    ({"kind": "throttle", "times": 1, "retryAfter": "Thu, 01 Jan 1970 00:00:00 GMT", "status": 429}, None),
    ({"kind": "throttle", "times": 1}, None),
    ({"kind": "throttle", "retryAfter": 600}, Throttled),
    ({"kind": "error", "status": 502, "times": 2}, None),
    ({"kind": "error", "status": 502}, Transient),
    ({"kind": "gateway"}, AuthError),
    ({"kind": "gateway", "status": 404, "code": "InvalidApi.NotFound"}, BusinessError),
    ({"kind": "business"}, BusinessError),
    ({"kind": "business", "status": 500}, Transient),
    ({"kind": "malformed"}, ProtocolError),
    ({"kind": "malformed", "times": 1}, None),
    ({"kind": "empty"}, ProtocolError),
    ({"kind": "empty", "status": 204}, ProtocolError),
    ({"kind": "json_null"}, ProtocolError),
    ({"kind": "json_list"}, ProtocolError),
    ({"kind": "no_success"}, ProtocolError),
    ({"kind": "no_data"}, ProtocolError),
    ({"kind": "data_object"}, ProtocolError),
    ({"kind": "redirect"}, ProtocolError),
    ({"kind": "redirect", "location": "///["}, ProtocolError),
    ({"kind": "oversized", "size": 1 << 22}, ProtocolError),
    ({"kind": "gzip_bomb", "size": 1 << 24}, ProtocolError),
    ({"kind": "cut"}, Transient),
    ({"kind": "cut", "times": 1}, None),
    ({"kind": "hang"}, Transient),
    ({"kind": "hang", "times": 1}, None),
    ({"kind": "drip", "seconds": 0.05}, Transient),
]


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_faults(sandbox: RunningSandbox, fault: dict[str, Any], error: type[ControlError] | None) -> None:
    sandbox.set_faults([fault])
    transport = HttpTransport(wire_limit=1 << 20, body_limit=1 << 20)
    patience = 1.5 if fault["kind"] in ("hang", "drip") else 20.0
    options: dict[str, Any] = {"transport": transport, "timeout": patience, "clock": Clock(chance=lambda: 0.05)}
    if error is None:
        assert len(ask(sandbox.url, who, **options).deployments) == 3
        return
    with pytest.raises(ControlError) as caught:
        ask(sandbox.url, who, **options)
    assert type(caught.value) is error


def test_a_bad_element_is_dropped_and_counted(sandbox: RunningSandbox) -> None:
    sandbox.set_faults([{"kind": "bad_element"}])
    answer = ask(sandbox.url, who)
    assert (len(answer.deployments), answer.dropped) == (3, 3)
    sandbox.set_faults([{"kind": "wrong_types"}])
    answer = ask(sandbox.url, who)
    assert (len(answer.deployments), answer.dropped) == (0, 3)


def test_unreadable_text_drops_its_deployment(sandbox: RunningSandbox) -> None:
    entry = {"labels": {"team": "t"}, "addresses": ["10.0.0.1"]}
    deployments = [entry | {"id": f"d{number}", "name": f"n{number}"} for number in range(3)]
    deployments[1]["description"] = "rocket \ud83d"
    sandbox.set_catalog({"deployments": deployments})

    async def read(client: ControlClient) -> list[tuple[list[str | None], int]]:
        by_ip = await who(client, src_ip="10.0.0.1")
        by_label = await client.get_deployments_by_label(namespace=NAMESPACE, key="team", values=["t"])
        listing = client.list_deployments(namespace=NAMESPACE)
        listed = [item.name for item in await listing.all()]
        return [(names(by_ip), by_ip.dropped), (names(by_label), by_label.dropped), (listed, listing.dropped)]

    assert ask(sandbox.url, read) == [(["n0", "n2"], 1)] * 3


def test_a_fault_can_be_for_one_shape(sandbox: RunningSandbox) -> None:
    sandbox.set_faults([{"kind": "business", "operation": "GetDeploymentsByIp", "shape": "client", "skip": 1}])
    assert names(ask(sandbox.url, who))
    assert names(ask(sandbox.url, lambda client: who(client, src_ip="127.0.1.1")))
    with pytest.raises(BusinessError):
        ask(sandbox.url, lambda client: who(client, src_ip="127.0.1.1"))


def test_connection_refused() -> None:
    with pytest.raises(Transient) as caught:
        ask("http://127.0.0.1:9", who, clock=Clock(chance=lambda: 0.0))
    assert caught.value.reason == "connect"


def test_wrong_certificate(sandbox: RunningSandbox) -> None:
    with pytest.raises(Transient) as caught:
        ask(sandbox.url.replace("http://", "https://"), who)
    assert caught.value.reason == "tls"


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "http://10.0.0.1"},
        {"endpoint": "ftp://127.0.0.1"},
        {"endpoint": "https://user:pw@host"},
        {"endpoint": "https://host/path"},
        {"endpoint": "https://host:0"},
        {"endpoint": "https://host:99999"},
        {"endpoint": "https://h\u00f6st"},
        {"endpoint": ""},
    ],
)
def test_bad_endpoints_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        ControlClient(workspace="w", credentials=key(), **options)


@pytest.mark.parametrize("workspace", ["", "a b", "a\r\nx: y", "w" * 200])
def test_bad_workspaces_are_refused(workspace: str) -> None:
    with pytest.raises(BadRequest, match="workspace"):
        ControlClient(endpoint="http://127.0.0.1:1", workspace=workspace, credentials=key())


def test_environment_proxies_are_not_used(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert names(ask(sandbox.url, who))


def test_one_connection_serves_many_questions(sandbox: RunningSandbox) -> None:
    async def many(client: ControlClient) -> list[DeploymentsAnswer]:
        return [await who(client) for _ in range(5)]

    assert len(ask(sandbox.url, many)) == 5
    assert len({request.headers["x-acs-signature-nonce"] for request in sandbox.recorded}) == 5


CANARY = "canary-a7f3-secret"
TOKEN = "canary-token-91c2"


@pytest.mark.parametrize(
    "fault",
    [{"kind": kind} for kind in ("gateway", "error", "business", "malformed", "cut", "hang", "redirect")]
    + [{"kind": "gateway", "code": "SignatureDoesNotMatch", "message": f"you sent {CANARY} and {TOKEN}"}]
    + [{"kind": "business", "message": f"you sent {CANARY} and {TOKEN}"}],
    ids=str,
)
def test_secrets_are_never_printed(fault: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = StaticCredentials("STS.canary", CANARY, TOKEN)
    with running_sandbox(keys={"STS.canary": AccessKey(CANARY, TOKEN)}) as sandbox:
        sandbox.set_faults([fault])
        with pytest.raises(ControlError) as caught:
            ask(sandbox.url, who, credentials=provider, timeout=1.0)
    shown = [caplog.text, repr(provider), *everything_of(caught.value), *traceback.format_exception(caught.value)]
    assert not [text for text in shown if CANARY in text or TOKEN in text]


def test_credentials_do_not_show_their_secret() -> None:
    credentials = Credentials("id", CANARY, TOKEN)
    assert CANARY not in repr(credentials) and TOKEN not in repr(credentials)
    assert CANARY not in str(credentials) and TOKEN not in f"{credentials}"


def test_models_and_questions_do_not_import_httpx() -> None:
    modules = "flowmap.control.alibaba.api.models, flowmap.control.alibaba.api.client"
    code = f"import sys, {modules}; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_closed_client_leaves_nothing_open(sandbox: RunningSandbox) -> None:
    def sockets() -> int:
        gc.collect()
        return sum(1 for fd in Path("/proc/self/fd").iterdir() if "socket" in str(fd.resolve()))

    ask(sandbox.url, who)
    before = sockets()
    for _ in range(3):
        ask(sandbox.url, who)
    asyncio.run(asyncio.sleep(0))
    assert sockets() <= before


def test_client_of_another_workspace(sandbox: RunningSandbox) -> None:
    async def both(client: ControlClient) -> DeploymentsAnswer:
        other = client.of_workspace("other")
        assert (client.workspace, other.workspace) != (client.workspace, client.workspace)
        with pytest.raises(ControlError, match="workspace 'other'"):
            await who(other)
        with pytest.raises(BadRequest):
            client.of_workspace("no/workspace")
        return await who(client)

    assert len(ask(sandbox.url, both).deployments) == 3
    assert [dict(request.header_list)["workspace"] for request in sandbox.recorded] == ["other", "sandbox"]
