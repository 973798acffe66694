"""Error bodies of all shapes, and any reply at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.control.alibaba.api.client import DeploymentsAnswer
from flowmap.control.alibaba.api.refusals import read_refusal, refusal_error
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import AuthError, BusinessError, ControlError, ProtocolError, Throttled, Transient
from tests.support.control_clients import run_questions, script

XML = b"<?xml version='1.0'?><Error><RequestId>R</RequestId><Code>Throttling</Code><Message>slow</Message></Error>"

BODIES: list[tuple[dict[str, str], bytes, tuple[str | None, str | None, str | None]]] = [
    ({}, b'{"Code": "C", "Message": "M", "RequestId": "R", "HostId": "H"}', ("C", "M", "R")),
    ({}, b'{"code": "C", "message": "M", "requestId": "R"}', ("C", "M", "R")),
    ({}, b'{"errorCode": "C", "errorMessage": "M", "success": false}', ("C", "M", None)),
    ({}, b'{"Code": "\\"\\"", "code": "", "errorCode": "C"}', ("C", None, None)),
    ({}, b'{"Code": 7, "Message": ["x"]}', (None, None, None)),
    ({"content-type": "text/xml;charset=utf-8"}, XML, ("Throttling", "slow", "R")),
    ({"content-type": "text/html", "x-acs-request-id": "H"}, b"<html>bad gateway</html>", (None, None, "H")),
    ({}, b'{"Code": "C", "Message": "a\\ud800b\xffc", "RequestId": "R"}', ("C", "a b c", "R")),
    ({}, b"", (None, None, None)),
    ({}, b"[]", (None, None, None)),
    ({}, b"\xff", (None, None, None)),
]


@pytest.mark.parametrize(("headers", "body", "found"), BODIES, ids=[str(row[1][:40]) for row in BODIES])
def test_bodies(headers: dict[str, str], body: bytes, found: tuple[str | None, str | None, str | None]) -> None:
    assert tuple(read_refusal(HttpReply(400, headers, body))) == found


CODES: list[tuple[int, str | None, dict[str, str], type[ControlError]]] = [
    (400, "Throttling", {}, Throttled),
    (400, "Throttling.User", {}, Throttled),
    (429, None, {}, Throttled),
    (503, "ServiceUnavailableTemporary", {"x-acs-retry-after": "5"}, Throttled),
    (403, "Forbidden", {"x-acs-retry-after": "5"}, Throttled),
    (503, "ServiceUnavailableTemporary", {"x-acs-retry-after": "soon"}, Transient),
    (404, "InvalidAccessKeyId.NotFound", {}, AuthError),
    (400, "InvalidAccessKeyId.Inactive", {}, AuthError),
    (404, "InvalidSecurityToken.Expired", {}, AuthError),
    (400, "MissingSecurityToken", {}, AuthError),
    (400, "SignatureDoesNotMatch", {}, AuthError),
    (400, "IncompleteSignature", {}, AuthError),
    (400, "InvalidTimeStamp.Expired", {}, AuthError),
    (400, "SignatureNonceUsed", {}, Transient),
    (404, "NoPermission", {}, AuthError),
    (403, "Forbidden.RAM", {}, AuthError),
    (401, None, {}, AuthError),
    (400, "InvalidParameter.x", {}, BusinessError),
    (404, "InvalidApi.NotFound", {}, BusinessError),
    (400, "InvalidProtocol.NeedSsl", {}, BusinessError),
    (404, None, {}, ProtocolError),
    (408, None, {}, Transient),
    (500, "InternalFailure", {}, Transient),
    (502, None, {}, Transient),
    (201, None, {}, ProtocolError),
    (304, None, {}, ProtocolError),
]


@pytest.mark.parametrize(("status", "code", "headers", "kind"), CODES, ids=[f"{row[0]}-{row[1]}" for row in CODES])
def test_codes(status: int, code: str | None, headers: dict[str, str], kind: type[ControlError]) -> None:
    body = json.dumps({"Code": code, "Message": "m", "RequestId": "R"} if code else {}).encode()
    error = refusal_error(HttpReply(status, headers, body), hint=4.0)
    assert type(error) is kind
    if code is not None:
        assert (error.code, error.request_id, error.status, error.retry_after) == (code, "R", status, 4.0)
    assert "\n" not in str(error)


values = st.text(max_size=20)
headers = st.dictionaries(
    st.sampled_from(["content-type", "date", "retry-after", "x-acs-retry-after", "location", "x-acs-request-id"]),
    values,
)
bodies = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(["Code", "Message", "success", "data", "errorCode", "httpCode", "RequestId"]),
    values | st.booleans() | st.integers() | st.none() | st.lists(values, max_size=2),
).map(lambda tree: json.dumps(tree).encode())


@settings(max_examples=200)
@given(st.lists(st.builds(HttpReply, st.integers(200, 599), headers, bodies), min_size=3, max_size=3))
def test_any_replies_end_in_an_answer_or_one_of_our_errors(replies: list[HttpReply]) -> None:
    server = script(*replies)
    (result,) = run_questions(server.client())
    if isinstance(result, DeploymentsAnswer):
        good = [reply for reply in replies if reply.status == 200 and json.loads(reply.body)["success"] is True]
        assert good or not server.replies  # the script's own good answer comes after those that were made up
    else:
        assert isinstance(result, ControlError)
    assert len(server.sent) <= 4
