"""Answers and their envelope: unreadable elements, refusals, and broken bodies."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.control.alibaba.api.envelope import Elements, read_answer
from flowmap.control.alibaba.api.models import Deployment, Job, camel
from flowmap.errors import BusinessError, ControlError, ProtocolError, Throttled, Transient

DATA = Path(__file__).parents[3] / "data/api"

EXAMPLES = [
    ("by-ip.json", Deployment),
    ("by-label.json", Deployment),
    ("list-deployments.json", Deployment),
    ("list-jobs.json", Job),
]


def answer(*items: object, **fields: object) -> bytes:
    return json.dumps({"success": True, "requestId": "R", "data": items, **fields}).encode()


STRICT_ROWS: list[dict[str, object]] = [
    {"deploymentId": None},
    {"deploymentId": ""},
    {"deploymentId": 5},
    {"name": 5},
    {"createdAt": "yesterday"},
    {"createdAt": True},
    {"createdAt": "9" * 30},
    {"createdAt": 1e400},
    {"labels": []},
    {"labels": {"a": {}}},
    {"jobSummary": {"running": "2"}},
    {"jobSummary": {"running": 2.5}},
    {"deploymentHasChanged": "yes"},
    {"artifact": "jar"},
]


@pytest.mark.parametrize("fields", STRICT_ROWS, ids=str)
def test_bad_element_is_dropped(fields: dict[str, object]) -> None:
    good = {"deploymentId": "good"}
    body = answer(good, {"deploymentId": "bad", **fields}, good).replace(b"Infinity", b"1e400")
    result = read_answer(body, Deployment)
    assert [item.deployment_id for item in result.items] == ["good", "good"]
    assert (result.dropped, result.request_id) == (1, "R")


UNREADABLE_ROWS: list[tuple[bytes, int]] = [
    (rb'"name": "\ud800"', 1),
    (rb'"name": "\udc00x"', 1),
    (b'"name": "\xff"', 1),
    (rb'"labels": {"\ud800": "x"}', 1),
    (rb'"unheardOf": ["\ud800"]', 1),
    (b'"unheardOf": "\xc3"', 1),
    (b'"unheardOf": NaN', 1),
    (b'"unheardOf": 1e999', 1),
    (b'"unheardOf": ' + b"9" * 5000, 1),
    (b'"unheardOf": ' + b"[" * 300 + b"]" * 300, 1),
    (b'"name": "a\x01b"', 0),
    (b'"name": "\xf0\x9f\x98\x80"', 0),
    (rb'"name": "\ud83d\ude00"', 0),
]


@pytest.mark.parametrize(("field", "dropped"), UNREADABLE_ROWS, ids=lambda value: repr(value)[:40])
def test_unreadable_value_drops_its_element(field: bytes, dropped: int) -> None:
    good = b'{"deploymentId": "good"}'
    odd = b'{"deploymentId": "odd", ' + field + b"}"
    body = b'{"success": true, "requestId": "R\\ud800S", "data": [' + b", ".join((good, odd, good)) + b"]}"
    result = read_answer(body, Deployment)
    names = [item.deployment_id for item in result.items]
    assert names == ["good", *["odd"] * (1 - dropped), "good"]
    assert (result.dropped, result.request_id) == (dropped, "R S")


REFUSED: list[tuple[bytes, type[ControlError], str]] = [
    (b"", ProtocolError, "malformed"),
    (b"<html>", ProtocolError, "malformed"),
    (b'{"success": true, "data": [', ProtocolError, "malformed"),
    (b"\xff\xfe", ProtocolError, "malformed"),
    (b"[" * 100_000, ProtocolError, "malformed"),
    (b"null", ProtocolError, "protocol"),
    (b"[]", ProtocolError, "protocol"),
    (b"7", ProtocolError, "protocol"),
    (b"{}", ProtocolError, "protocol"),
    (b'{"data": []}', ProtocolError, "protocol"),
    (b'{"success": "true", "data": []}', ProtocolError, "protocol"),
    (b'{"success": 1, "data": []}', ProtocolError, "protocol"),
    (b'{"success": null, "data": []}', ProtocolError, "protocol"),
    (b'{"success": true}', ProtocolError, "protocol"),
    (b'{"success": true, "data": null}', ProtocolError, "protocol"),
    (b'{"success": true, "data": {}}', ProtocolError, "protocol"),
    (b'{"success": true, "data": "x"}', ProtocolError, "protocol"),
    (b'{"success": false}', BusinessError, "business"),
    (b'{"success": false, "data": []}', BusinessError, "business"),
    (b'{"success": false, "data": {}, "httpCode": "x"}', BusinessError, "business"),
    (b'{"success": false, "httpCode": 429}', Throttled, "throttled"),
    (b'{"success": false, "errorCode": "Throttling.User"}', Throttled, "throttled"),
    (b'{"success": false, "httpCode": 500}', Transient, "transient"),
]


@pytest.mark.parametrize(("body", "error", "reason"), REFUSED, ids=[repr(row[0][:40]) for row in REFUSED])
def test_errors(body: bytes, error: type[ControlError], reason: str) -> None:
    with pytest.raises(ControlError) as caught:
        read_answer(body, Deployment)
    assert (type(caught.value), caught.value.reason) == (error, reason)


def test_an_empty_list_is_an_answer() -> None:
    assert read_answer(answer(), Deployment) == Elements(items=(), request_id="R")
    assert read_answer(b"\xef\xbb\xbf" + answer(), Deployment).items == ()


def test_invalid_paging_fields_are_ignored() -> None:
    result = read_answer(answer(pageIndex="x", pageSize=-1, totalSize=True, requestId=7, httpCode=[]), Deployment)
    assert (result.page_index, result.page_size, result.total_size, result.request_id) == (None, None, None, "")
    result = read_answer(answer(pageIndex=2, pageSize=10, totalSize=25), Deployment)
    assert (result.page_index, result.page_size, result.total_size) == (2, 10, 25)


@pytest.mark.parametrize("name", [name for name, _ in EXAMPLES])
def test_an_example_cut_anywhere_is_an_error(name: str) -> None:
    body = (DATA / name).read_bytes().rstrip()
    for end in range(0, len(body), 7):
        with pytest.raises(ProtocolError):
            read_answer(body[:end], Deployment)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted(
    {camel(field.name) for model in (Deployment, Job) for field in dataclasses.fields(model)}
    | {"success", "httpCode", "errorCode", "errorMessage", "requestId", "data", "pageIndex", "pageSize", "totalSize"}
)
shaped = st.dictionaries(st.sampled_from(FIELDS), trees, max_size=6)


def holds(body: bytes) -> None:
    """An answer says success and its list is where the elements come from; anything else is one of our errors."""
    try:
        result = read_answer(body, Deployment)
    except ControlError:
        return
    tree = json.loads(body.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape"), strict=False)
    assert tree["success"] is True
    assert len(result.items) + result.dropped == len(tree["data"])


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    holds(body)


@settings(max_examples=300)
@given(trees | shaped)
def test_any_tree(tree: Any) -> None:
    holds(json.dumps(tree).encode())


@settings(max_examples=300)
@given(st.lists(shaped | trees, max_size=4), shaped)
def test_any_elements(items: list[Any], around: dict[str, Any]) -> None:
    holds(json.dumps({**around, "success": True, "data": items}).encode())


@settings(max_examples=300)
@given(st.sampled_from([name for name, _ in EXAMPLES]), st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_damaged_example(name: str, at: int, patch: bytes) -> None:
    body = (DATA / name).read_bytes()
    at %= len(body)
    try:
        holds(body[:at] + patch + body[at + len(patch) :])
    except json.JSONDecodeError:
        pytest.fail("an answer was made of something that is not JSON")
