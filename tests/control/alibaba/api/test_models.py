"""Elements of the documents' examples, and fields for which documents and SDK disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowmap.control.alibaba.api.envelope import read_answer
from flowmap.control.alibaba.api.models import ApiModel, Deployment, Job

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


def test_whole_numbers_of_cores() -> None:
    read = job(metric={"totalCpu": 2})
    assert read.metric is not None and read.metric.total_cpu == 2.0 and isinstance(read.metric.total_cpu, float)


def test_resource_plan_is_text() -> None:
    read = read_answer((DATA / "by-ip.json").read_bytes(), Deployment).items[0]
    assert read.streaming_resource_setting is not None
    expert = read.streaming_resource_setting.expert_resource_setting
    assert expert is not None and expert.resource_plan is not None
    assert json.loads(expert.resource_plan.replace('\\"', '"'))["ssgProfiles"][0]["name"] == "default"
