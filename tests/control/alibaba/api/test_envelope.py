"""Answers: the documents' examples, the rows where they disagree with the SDK, and everything broken."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.control.alibaba.api.envelope import Elements, read_answer
from flowmap.control.alibaba.api.models import ApiModel, Deployment, Job, camel
from flowmap.control.alibaba.http.text import plain_text
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


def deployment(**fields: object) -> Deployment:
    result = read_answer(answer({"deploymentId": "d", **fields}), Deployment)
    assert result.dropped == 0
    return result.items[0]


def job(**fields: object) -> Job:
    result = read_answer(answer({"jobId": "j", **fields}), Job)
    assert result.dropped == 0
    return result.items[0]


@pytest.mark.parametrize(("name", "model"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_every_field_of_an_example_is_read(name: str, model: type[ApiModel]) -> None:
    body = (DATA / name).read_bytes()
    result = read_answer(body, model)
    assert (len(result.items), result.dropped) == (1, 0)
    read = result.items[0].model_dump(mode="json", by_alias=True, exclude_none=True)
    assert not list(differences(json.loads(body)["data"][0], read))


LENIENT = {"createdAt", "modifiedAt", "labels", "sessionClusterName"}
"""Fields whose value is changed on reading; tested one by one below."""


def differences(sent: Any, read: Any, place: str = "") -> Any:
    """Places at which a document's example and what was read of it differ."""
    if isinstance(sent, dict) and isinstance(read, dict):
        for key in sent.keys() | read.keys():
            if key not in LENIENT:
                yield from differences(sent.get(key), read.get(key), f"{place}.{key}")
    elif isinstance(sent, list) and isinstance(read, list) and len(sent) == len(read):
        for position, (a, b) in enumerate(zip(sent, read, strict=True)):
            yield from differences(a, b, f"{place}[{position}]")
    elif sent != read:
        yield (place, sent, read)


LENIENT_ROWS: list[tuple[str, object, object]] = [
    ("createdAt", "1714058507\n", 1714058507),
    ("createdAt", "1714058507", 1714058507),
    ("createdAt", 1714058507, 1714058507),
    ("createdAt", 1714058507123, 1714058507),
    ("createdAt", "1714058507123", 1714058507),
    ("modifiedAt", " 1714058843 ", 1714058843),
    (
        "labels",
        {"a": "x", "b": 1, "c": 1.5, "d": True, "e": None},
        {"a": "x", "b": "1", "c": "1.5", "d": "true", "e": ""},
    ),
    ("labels", None, None),
    ("flinkConf", {"a": 1, "b": "1", "c": [None]}, {"a": 1, "b": "1", "c": [None]}),
    ("executionMode", "STREAM", "STREAM"),
    ("jobSummary", None, None),
    ("unheardOf", {"x": 1}, None),
]


@pytest.mark.parametrize(("name", "sent", "read"), LENIENT_ROWS)
def test_lenient_where_documents_and_sdk_disagree(name: str, sent: object, read: object) -> None:
    dumped = deployment(**{name: sent}).model_dump(by_alias=True)
    assert dumped.get(name) == read


JOB_ROWS: list[tuple[dict[str, object], str, object]] = [
    ({"sessionClusterName": "null"}, "session_cluster_name", None),
    ({"sessionClusterName": "mine"}, "session_cluster_name", "mine"),
    ({"startTime": 1660190835}, "start_time", 1660190835),
    ({"startTime": 1660190835123}, "start_time", 1660190835),
]


@pytest.mark.parametrize(("sent", "name", "read"), JOB_ROWS)
def test_lenient_jobs(sent: dict[str, object], name: str, read: object) -> None:
    assert getattr(job(**sent), name) == read


def test_whole_numbers_are_cores_too() -> None:
    read = job(metric={"totalCpu": 2})
    assert read.metric is not None and read.metric.total_cpu == 2.0 and isinstance(read.metric.total_cpu, float)


def test_the_resource_plan_stays_the_text_it_is() -> None:
    read = read_answer((DATA / "by-ip.json").read_bytes(), Deployment).items[0]
    assert read.streaming_resource_setting is not None
    expert = read.streaming_resource_setting.expert_resource_setting
    assert expert is not None and expert.resource_plan is not None
    assert json.loads(expert.resource_plan.replace('\\"', '"'))["ssgProfiles"][0]["name"] == "default"


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
def test_strict_elsewhere_and_only_the_bad_element_goes(fields: dict[str, object]) -> None:
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
def test_a_value_that_cannot_be_read_costs_its_element_only(field: bytes, dropped: int) -> None:
    good = b'{"deploymentId": "good"}'
    odd = b'{"deploymentId": "odd", ' + field + b"}"
    body = b'{"success": true, "requestId": "R\\ud800S", "data": [' + b", ".join((good, odd, good)) + b"]}"
    result = read_answer(body, Deployment)
    names = [item.deployment_id for item in result.items]
    assert names == ["good", *["odd"] * (1 - dropped), "good"]
    assert (result.dropped, result.request_id) == (dropped, "R S")


@pytest.mark.parametrize("text", ["", '""', " ", None, 7])
def test_two_quotes_are_none(text: object) -> None:
    assert plain_text(text) is None


def test_texts_of_the_api_are_fit_for_a_log_line() -> None:
    assert plain_text("a\nb\x1b[31m\u202ec") == "a b [31m c"
    assert len(plain_text("x" * 5000) or "") == 300


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
def test_what_is_no_answer(body: bytes, error: type[ControlError], reason: str) -> None:
    with pytest.raises(ControlError) as caught:
        read_answer(body, Deployment)
    assert (type(caught.value), caught.value.reason) == (error, reason)


def test_an_empty_list_is_an_answer() -> None:
    assert read_answer(answer(), Deployment) == Elements(items=(), request_id="R")
    assert read_answer(b"\xef\xbb\xbf" + answer(), Deployment).items == ()


def test_paging_fields_that_are_none_do_not_spoil_the_answer() -> None:
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
