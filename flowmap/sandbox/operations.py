"""The five operations, answered from a catalog. Pure: parameters in, body out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from flowmap.catalog_file.catalog import DeploymentEntry, normal_ip
from flowmap.catalog_file.matching import Index, IpQuestion
from flowmap.sandbox import rendering
from flowmap.sandbox.rendering import Json
from flowmap.sandbox.verify import Refused

Item = TypeVar("Item")

VERSION = "2022-07-18"

PAGE_SIZE = 10
"""Default of ``pageSize``."""

BLINK_ACTION = "GetRefPackageJob"
BLINK_VERSION = "2018-11-11"

_PATH = re.compile(r"/api/v2/namespaces/([^/]+)(/.+)")
_BLINK_PATH = re.compile(r"/api/v2/projects/([^/]+)/packages/([^/]+)/jobs")


class SandboxRequest(NamedTuple):
    """A request that passed the gateway."""

    action: str
    namespace: str
    parameters: Mapping[str, str]
    now: float

    def invalid(self, name: str, why: str = "") -> Refused:
        return Refused(400, f"InvalidParameter.{name}", why or f"{self.parameters.get(name)!r} is not valid")


class SandboxAnswer(NamedTuple):
    """The answer to a request, without its request id."""

    shape: str
    """Shape of a question by address; empty for other operations."""
    answer: Callable[[str], Json] | Refused
    """Makes the body from a request id."""


def route(action: str, path: str) -> str | None:
    """The namespace in the encoded ``path``; None if it is not a path of ``action``."""
    found = _PATH.fullmatch(path)
    if found is None or action not in OPERATIONS or found[2] != OPERATIONS[action].tail:
        return None
    return unquote(found[1])


def route_blink(action: str, path: str) -> tuple[str, str] | None:
    """Project and package in the encoded ``path``; None if it is not a path of the legacy operation."""
    found = _BLINK_PATH.fullmatch(path)
    return (unquote(found[1]), unquote(found[2])) if found and action == BLINK_ACTION else None


def answer_blink(index: Index, asked: SandboxRequest, package: str) -> SandboxAnswer:
    """Answer the legacy operation. The namespace of ``asked`` is the project."""
    every = index.catalog.blink_jobs
    found = [job for job in every if job.project == asked.namespace and package in job.packages]
    numbers = _page_numbers(asked)
    if isinstance(numbers, Refused):
        return SandboxAnswer("", numbers)
    page, size = numbers
    part = found[(page - 1) * size : page * size]
    return SandboxAnswer(
        "",
        lambda request_id: rendering.blink_page(request_id, part, index=page, size=size, total=len(found)),
    )


def answer(index: Index, asked: SandboxRequest) -> SandboxAnswer:
    """Answer ``asked`` from ``index``."""
    return OPERATIONS[asked.action].answer(index, asked)


def _by_ip(index: Index, asked: SandboxRequest) -> SandboxAnswer:
    question = _ip_question(asked)
    if isinstance(question, Refused):
        return SandboxAnswer("other", question)
    return SandboxAnswer(
        question.shape, _deployments(index, asked, index.by_ip(asked.namespace, question, now=asked.now))
    )


def _by_label(index: Index, asked: SandboxRequest) -> SandboxAnswer:
    key, values = asked.parameters.get("labelKey"), asked.parameters.get("labelValue")
    if not key:
        return SandboxAnswer("", asked.invalid("labelKey"))
    if not values:
        return SandboxAnswer("", asked.invalid("labelValue"))
    return SandboxAnswer("", _deployments(index, asked, index.by_label(asked.namespace, key, values.split(","))))


def _list_deployments(index: Index, asked: SandboxRequest) -> SandboxAnswer:
    found = index.listed(asked.namespace)
    for name, test in _FILTERS.items():
        wanted = asked.parameters.get(name)
        if wanted:
            found = [entry for entry in found if test(entry, wanted)]
    key, values = asked.parameters.get("labelKey"), asked.parameters.get("labelValueArray")
    if key:
        wanted_values = (values or "").split(";")
        found = [entry for entry in found if str(entry.labels.get(key, "\0")) in wanted_values]
    workspace = index.catalog.workspace
    return _page(asked, found, lambda entry: rendering.deployment(entry, workspace=workspace, in_list=True))


def _list_jobs(index: Index, asked: SandboxRequest) -> SandboxAnswer:
    identity = asked.parameters.get("deploymentId")
    if not identity:
        return SandboxAnswer("", asked.invalid("deploymentId"))
    entry = index.deployment(asked.namespace, identity)
    workspace = index.catalog.workspace
    if entry is None:
        return _page(asked, [], lambda run: run)
    runs = sorted(entry.jobs, key=lambda run: run.start_time, reverse=asked.parameters.get("sortOrder") == "desc")
    return _page(asked, runs, lambda run: rendering.job(entry, run, workspace=workspace))


class _Operation(NamedTuple):
    tail: str
    """Path after the namespace."""
    answer: Callable[[Index, SandboxRequest], SandboxAnswer]


OPERATIONS: Mapping[str, _Operation] = {
    "GetDeploymentsByIp": _Operation("/deployments/getDeployments/byIp", _by_ip),
    "GetDeploymentsByLabel": _Operation("/deployments/getDeployments/byLabel", _by_label),
    "ListDeployments": _Operation("/deployments", _list_deployments),
    "ListJobs": _Operation("/jobs", _list_jobs),
}

_FILTERS: Mapping[str, Callable[[DeploymentEntry, str], bool]] = {
    "name": lambda entry, wanted: entry.name == wanted,
    "creator": lambda entry, wanted: entry.creator == wanted,
    "modifier": lambda entry, wanted: entry.modifier == wanted,
    "executionMode": lambda entry, wanted: entry.execution_mode == wanted,
    "status": lambda entry, wanted: any(job.status == wanted for job in entry.jobs),
}


def _deployments(
    index: Index, asked: SandboxRequest, found: Sequence[DeploymentEntry]
) -> Callable[[str], Json] | Refused:
    flags = {
        name: asked.parameters.get(name, "false").lower() for name in ("ignoreJobSummary", "ignoreResourceSetting")
    }
    for name, value in flags.items():
        if value not in ("true", "false"):
            return asked.invalid(name)
    data = [
        rendering.deployment(
            entry,
            workspace=index.catalog.workspace,
            in_list=False,
            job_summary=flags["ignoreJobSummary"] == "false",
            resources=flags["ignoreResourceSetting"] == "false",
        )
        for entry in found
    ]
    return lambda request_id: rendering.success(request_id, data)


def _page(asked: SandboxRequest, found: Sequence[Item], render: Callable[[Item], Json]) -> SandboxAnswer:
    numbers = _page_numbers(asked)
    if isinstance(numbers, Refused):
        return SandboxAnswer("", numbers)
    page, size = numbers
    data = [render(item) for item in found[(page - 1) * size : page * size]]
    return SandboxAnswer(
        "",
        lambda request_id: rendering.success(request_id, data, pageIndex=page, pageSize=size, totalSize=len(found)),
    )


def _page_numbers(asked: SandboxRequest) -> tuple[int, int] | Refused:
    numbers = []
    for name, default, high in (("pageIndex", 1, 2**31 - 1), ("pageSize", PAGE_SIZE, 100)):
        text = asked.parameters.get(name, str(default))
        if not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= high:
            return asked.invalid(name)
        numbers.append(int(text))
    return numbers[0], numbers[1]


def _ip_question(asked: SandboxRequest) -> IpQuestion | Refused:
    addresses: dict[str, str | None] = {}
    for name in ("srcIp", "dstIp"):
        try:
            addresses[name] = normal_ip(asked.parameters[name]) if name in asked.parameters else None
        except ValueError:
            return asked.invalid(name)
    if addresses["srcIp"] is None and addresses["dstIp"] is None:
        return Refused(400, "MissingParameter", "You must specify at least one of srcIp or dstIp.")
    ports: dict[str, int | None] = {}
    for name, beside in (("srcPort", "srcIp"), ("dstPort", "dstIp")):
        text = asked.parameters.get(name)
        if text is not None and (not text.isdecimal() or not 1 <= int(text) <= 65535 or addresses[beside] is None):
            return asked.invalid(name)
        ports[name] = None if text is None else int(text)
    return IpQuestion(addresses["srcIp"], ports["srcPort"], addresses["dstIp"], ports["dstPort"])
