"""The operations of the 2022-07-18 API as requests: parameters checked, encoded, not yet signed. Pure.

Every operation is a ``GET`` without a body. What the documents leave to the server (a port without its address, a
separator inside a label value, a namespace that a path normaliser would eat) is refused here as BadRequest with the
name of the parameter, before any call is made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowmap.control.alibaba.http.signing import canonical_query, encode
from flowmap.errors import BadRequest

VERSION = "2022-07-18"

PAGE_SIZE = 100
"""Largest ``pageSize`` the documents allow."""

LABEL_VALUE_SEPARATOR = {"GetDeploymentsByLabel": ",", "ListDeployments": ";"}
"""Between alternative label values: the documents give each operation its own (ListDeployments' example, which has a
comma, contradicts its text)."""

_WORKSPACE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TEXT_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the API. ``target`` is both what is signed and what is sent."""

    action: str
    path: str
    """Encoded path."""
    query: Mapping[str, str]
    """Decoded parameters; the unset ones are left out."""
    version: str = VERSION

    @property
    def canonical_query(self) -> str:
        return canonical_query(self.query)

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        query = self.canonical_query
        return f"{self.path}?{query}" if query else self.path


def get_deployments_by_ip(
    *,
    namespace: str,
    src_ip: str | None = None,
    src_port: int | None = None,
    dst_ip: str | None = None,
    dst_port: int | None = None,
    ignore_job_summary: bool | None = None,
    ignore_resource_setting: bool | None = None,
) -> Request:
    """``GetDeploymentsByIp``: at least one of the addresses; a port needs its address."""
    if src_ip is None and dst_ip is None:
        raise BadRequest("src_ip or dst_ip: at least one is needed")
    query = {
        "srcIp": address("src_ip", src_ip),
        "srcPort": port("src_port", src_port, beside=("src_ip", src_ip)),
        "dstIp": address("dst_ip", dst_ip),
        "dstPort": port("dst_port", dst_port, beside=("dst_ip", dst_ip)),
        "ignoreJobSummary": boolean("ignore_job_summary", ignore_job_summary),
        "ignoreResourceSetting": boolean("ignore_resource_setting", ignore_resource_setting),
    }
    return _request("GetDeploymentsByIp", namespace, "/deployments/getDeployments/byIp", query)


def get_deployments_by_label(
    *,
    namespace: str,
    key: str,
    values: Sequence[str],
    ignore_job_summary: bool | None = None,
    ignore_resource_setting: bool | None = None,
) -> Request:
    """``GetDeploymentsByLabel``: deployments whose label ``key`` is any of ``values``."""
    query = {
        "labelKey": _required("key", key),
        "labelValue": label_values("GetDeploymentsByLabel", values),
        "ignoreJobSummary": boolean("ignore_job_summary", ignore_job_summary),
        "ignoreResourceSetting": boolean("ignore_resource_setting", ignore_resource_setting),
    }
    return _request("GetDeploymentsByLabel", namespace, "/deployments/getDeployments/byLabel", query)


def list_deployments(
    *,
    namespace: str,
    page_index: int,
    page_size: int = PAGE_SIZE,
    name: str | None = None,
    status: str | None = None,
    creator: str | None = None,
    modifier: str | None = None,
    execution_mode: str | None = None,
    label: tuple[str, Sequence[str]] | None = None,
    sort_name: str | None = None,
) -> Request:
    """One page of ``ListDeployments``; ``label`` is a key and its alternative values."""
    query = {
        "name": text("name", name),
        "status": text("status", status),
        "creator": text("creator", creator),
        "modifier": text("modifier", modifier),
        "executionMode": text("execution_mode", execution_mode),
        "sortName": text("sort_name", sort_name),
        **_page(page_index, page_size),
    }
    if label is not None:
        query["labelKey"] = _required("label key", label[0])
        query["labelValueArray"] = label_values("ListDeployments", label[1])
    return _request("ListDeployments", namespace, "/deployments", query)


def list_jobs(
    *,
    namespace: str,
    deployment_id: str,
    page_index: int,
    page_size: int = PAGE_SIZE,
    sort_name: str | None = None,
    sort_order: str | None = None,
) -> Request:
    """One page of ``ListJobs``: the jobs of one deployment."""
    query = {
        "deploymentId": _required("deployment_id", deployment_id),
        "sortName": text("sort_name", sort_name),
        "sortOrder": text("sort_order", sort_order),
        **_page(page_index, page_size),
    }
    return _request("ListJobs", namespace, "/jobs", query)


def workspace(value: str) -> str:
    """A workspace id fit for a header."""
    if not isinstance(value, str) or not _WORKSPACE.fullmatch(value):
        raise BadRequest(f"workspace: {value!r} is not a workspace id (letters, digits, '-' and '_')")
    return value


def text(name: str, value: str | None) -> str | None:
    """A free text parameter: printable, bounded, not empty."""
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name}: {value!r} is not a text with something in it")
    if len(value) > _TEXT_LIMIT or not value.isprintable():
        raise BadRequest(f"{name}: longer than {_TEXT_LIMIT} characters, or with characters that do not print")
    return value


def address(name: str, value: str | None) -> str | None:
    """An address as it is asked about: compressed, no zone, IPv4-mapped IPv6 as IPv4."""
    if value is None:
        return None
    try:
        parsed = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or (isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None):
        raise BadRequest(f"{name}: {value!r} is not an IP address without a zone")
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def port(name: str, value: int | None, *, beside: tuple[str, str | None]) -> str | None:
    """A port as decimal text; ``beside`` names the address it belongs to."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise BadRequest(f"{name}: {value!r} is not a port (1 to 65535)")
    if beside[1] is None:
        raise BadRequest(f"{name}: needs {beside[0]}; a port without its address is undefined")
    return str(value)


def boolean(name: str, value: bool | None) -> str | None:
    """``true`` or ``false`` in lower case, as the documents list them (the vendor's Python SDK capitalises)."""
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"{name}: {value!r} is not a boolean")
    return None if value is None else str(value).lower()


def label_values(action: str, values: Sequence[str]) -> str:
    """Alternative label values in one parameter. There is no escape for the separator, so it is refused."""
    separator = LABEL_VALUE_SEPARATOR[action]
    if isinstance(values, str) or not values:
        raise BadRequest("label values: give a list with at least one value")
    for value in values:
        if separator in _required("label value", value):
            raise BadRequest(f"label value: {value!r} contains {separator!r}, which separates values in {action}")
    return separator.join(values)


def integer(name: str, value: int, *, low: int, high: int) -> str:
    """A whole number between ``low`` and ``high``, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"{name}: {value!r} is not a whole number from {low} to {high}")
    return str(value)


def segment(name: str, value: str) -> str:
    """One encoded path segment. ``.`` and ``..`` are refused: a URL library would resolve them after signing."""
    if _required(name, value) in (".", ".."):
        raise BadRequest(f"{name}: {value!r} cannot be a path segment")
    return encode(value)


def _required(name: str, value: str) -> str:
    checked = text(name, value)
    if checked is None:
        raise BadRequest(f"{name}: is needed")
    return checked


def _page(page_index: int, page_size: int) -> dict[str, str | None]:
    return {
        "pageIndex": integer("page_index", page_index, low=1, high=2**31 - 1),
        "pageSize": integer("page_size", page_size, low=1, high=PAGE_SIZE),
    }


def _request(action: str, namespace: str, tail: str, query: Mapping[str, str | None]) -> Request:
    path = f"/api/v2/namespaces/{segment('namespace', namespace)}{tail}"
    return Request(action, path, {name: value for name, value in query.items() if value is not None})
