"""The operations of the 2022-07-18 API as one table, and the requests made from it: checked and encoded. Pure.

Every operation is a ``GET`` without a body. A parameter whose meaning the documents leave to the server (a port without
its address, a separator inside a label value, a namespace that a path normaliser would remove) raises BadRequest with
its name, before any call is made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from flowmap.control.alibaba.api.models import ApiModel, Deployment, Job
from flowmap.control.alibaba.api.signing import canonical_query, encode
from flowmap.errors import BadRequest

Element = TypeVar("Element", bound=ApiModel)

VERSION = "2022-07-18"

PAGE_SIZE = 100
"""Largest ``pageSize`` that the documents allow."""

_WORKSPACE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TEXT_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the API. Its ``target`` is signed and sent as it is."""

    action: str
    path: str
    """Encoded path."""
    query: Mapping[str, str]
    """Decoded parameters."""
    version: str = VERSION

    @property
    def canonical_query(self) -> str:
        return canonical_query(self.query)

    @property
    def target(self) -> str:
        """Encoded path and query."""
        query = self.canonical_query
        return f"{self.path}?{query}" if query else self.path


class Parameter(NamedTuple):
    """A parameter of an operation."""

    sent_as: str
    """Its name in the query."""
    encode: Callable[[str, Any], str | None]
    """From its name and value to the text in the query; None leaves it out. Raises BadRequest."""
    required: bool = False
    needs: str | None = None
    """The address that a port belongs to."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Element]):
    """An operation of the API."""

    name: str
    tail: str
    """The path after the namespace."""
    element: type[Element]
    """What its answer is a list of."""
    parameters: Mapping[str, Parameter]
    """By the name that callers use."""
    any_of: tuple[str, ...] = ()
    """Parameters of which at least one is needed."""
    identity: Callable[[Element], str] | None = None
    """The id of an element, if the answer comes in pages."""

    def request(self, namespace: str, **values: object) -> Request:
        """The request with the parameters ``values``; BadRequest for one that is missing or not valid."""
        given = {name for name, value in values.items() if value is not None}
        if self.any_of and not given.intersection(self.any_of):
            raise BadRequest(f"{' or '.join(self.any_of)}: at least one is needed")
        path = f"/api/v2/namespaces/{segment('namespace', namespace)}{self.tail}"
        query = {}
        for name, parameter in self.parameters.items():
            if name not in given and parameter.required:
                raise BadRequest(f"{name}: is needed")
            encoded = parameter.encode(name, values[name]) if name in given else None
            if encoded is None:
                continue
            if parameter.needs is not None and parameter.needs not in given:
                raise BadRequest(f"{name}: needs {parameter.needs}; a port without its address is undefined")
            query[parameter.sent_as] = encoded
        return Request(self.name, path, query)


def workspace(value: str) -> str:
    """A workspace id fit for a header."""
    if not isinstance(value, str) or not _WORKSPACE.fullmatch(value):
        raise BadRequest(f"workspace: {value!r} is not a workspace id (letters, digits, '-' and '_')")
    return value


def text(name: str, value: str) -> str:
    """A free text parameter: printable, bounded, not empty."""
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name}: {value!r} is not a non-empty text")
    if len(value) > _TEXT_LIMIT or not value.isprintable():
        raise BadRequest(f"{name}: longer than {_TEXT_LIMIT} characters, or with unprintable characters")
    return value


def address(name: str, value: str) -> str:
    """An address in its compressed form, without zone; IPv4-mapped IPv6 becomes IPv4."""
    try:
        parsed = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or (isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None):
        raise BadRequest(f"{name}: {value!r} is not an IP address without a zone")
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def port(name: str, value: int) -> str:
    """A port as decimal text."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise BadRequest(f"{name}: {value!r} is not a port (1 to 65535)")
    return str(value)


def boolean(name: str, value: bool) -> str:
    """``true`` or ``false`` in lower case, as the documents list them (the vendor's Python SDK capitalises)."""
    if not isinstance(value, bool):
        raise BadRequest(f"{name}: {value!r} is not a boolean")
    return str(value).lower()


def label_values(name: str, values: Sequence[str], *, separator: str) -> str:
    """Alternative label values in one parameter. The separator has no escape, so values with it are refused."""
    if isinstance(values, str) or not values:
        raise BadRequest("label values: give a list with at least one value")
    for value in values:
        if separator in text("label value", value):
            raise BadRequest(f"label value: {value!r} contains {separator!r}, which separates values")
    return separator.join(values)


def integer(name: str, value: int, *, low: int, high: int) -> str:
    """A whole number between ``low`` and ``high``, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"{name}: {value!r} is not a whole number from {low} to {high}")
    return str(value)


def segment(name: str, value: str) -> str:
    """One encoded path segment. ``.`` and ``..`` are refused: a URL library would resolve them after signing."""
    if text(name, value) in (".", ".."):
        raise BadRequest(f"{name}: {value!r} cannot be a path segment")
    return encode(value)


_FLAGS = {
    "ignore_job_summary": Parameter("ignoreJobSummary", boolean),
    "ignore_resource_setting": Parameter("ignoreResourceSetting", boolean),
}
_PAGES = {
    "page_index": Parameter("pageIndex", partial(integer, low=1, high=2**31 - 1)),
    "page_size": Parameter("pageSize", partial(integer, low=1, high=PAGE_SIZE)),
    "sort_name": Parameter("sortName", text),
}

GET_DEPLOYMENTS_BY_IP = Operation(
    "GetDeploymentsByIp",
    "/deployments/getDeployments/byIp",
    Deployment,
    {
        "src_ip": Parameter("srcIp", address),
        "src_port": Parameter("srcPort", port, needs="src_ip"),
        "dst_ip": Parameter("dstIp", address),
        "dst_port": Parameter("dstPort", port, needs="dst_ip"),
        **_FLAGS,
    },
    any_of=("src_ip", "dst_ip"),
)
GET_DEPLOYMENTS_BY_LABEL = Operation(
    "GetDeploymentsByLabel",
    "/deployments/getDeployments/byLabel",
    Deployment,
    {
        "key": Parameter("labelKey", text, required=True),
        "values": Parameter("labelValue", partial(label_values, separator=","), required=True),
        **_FLAGS,
    },
)
LIST_DEPLOYMENTS = Operation(
    "ListDeployments",
    "/deployments",
    Deployment,
    {
        "name": Parameter("name", text),
        "status": Parameter("status", text),
        "creator": Parameter("creator", text),
        "modifier": Parameter("modifier", text),
        "execution_mode": Parameter("executionMode", text),
        "label_key": Parameter("labelKey", text),
        # The documents' text says ";", their example has ",".
        "label_values": Parameter("labelValueArray", partial(label_values, separator=";")),
        **_PAGES,
    },
    identity=lambda deployment: deployment.deployment_id,
)
LIST_JOBS = Operation(
    "ListJobs",
    "/jobs",
    Job,
    {"deployment_id": Parameter("deploymentId", text, required=True), **_PAGES},
    identity=lambda job: job.job_id,
)
