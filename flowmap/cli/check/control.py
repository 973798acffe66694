"""Checks of the control plane: credentials and their origin, one call of each operation, the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit

from flowmap.cli.shared.asking import blink_client
from flowmap.config import Config, ControlPlaneConfig
from flowmap.control.alibaba.api.caller import default_transport
from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.api.models import Deployment
from flowmap.control.http.route import Route
from flowmap.daemon.clients import control_client, control_route, credentials_provider, endpoint_url
from flowmap.errors import UNREACHED, ConfigError, ControlError, ProtocolError, Transient
from flowmap.sources.base import Finding

UNUSED_ADDRESS = "192.0.2.1"
"""An address for documentation (RFC 5737), for a query without a result."""

UNUSED_NAME = "flowmap-check"
"""A label and package that does not exist."""

TOLERATED_SKEW = 300.0
"""Seconds of clock difference that are ok; the API rejects requests at 15 minutes."""

PERMISSIONS = "see control_plane.credentials and the account's permissions"
PLACES = "see control_plane.endpoint, region, workspace and namespaces"
REMEDIES = {
    "auth": PERMISSIONS,
    "dns": "see /etc/resolv.conf, control_plane.endpoint and control_plane.proxy_url",
    "proxy": "see control_plane.proxy_url and the rules of the proxy",
    "tls": "see control_plane.tls.ca_file",
}
"""By the reason of an error; all others are about places."""

COSTS = {
    "GetDeploymentsByIp": "no connection can be named",
    "GetDeploymentsByLabel": "control_plane.catalog.label and `flowmap deployments by-label` do not work",
    "ListDeployments": "the catalog and `flowmap deployments list` do not work",
    "ListJobs": "jobs and the packages they use are unknown",
    "GetRefPackageJob": "jobs of the legacy product are unknown",
}
"""Cost of a failing operation."""

ESSENTIAL = "GetDeploymentsByIp"

Level = Literal["ok", "degraded", "failed"]


async def look(config: Config) -> list[Finding]:
    """All findings about the control plane."""
    plane = config.control_plane
    try:
        route = control_route(plane)
    except ConfigError as error:
        return [Finding("control_plane", "failed", str(error), "correct the configuration")]
    found = _route(plane, route)
    transport = default_transport(route)
    try:
        try:
            credentials = credentials_provider(plane, transport)
            keys = await credentials.get()
            client = control_client(plane, credentials=credentials)
        except (ConfigError, ControlError) as error:
            remedy = REMEDIES.get(getattr(error, "reason", ""), "see control_plane.credentials")
            return [*found, Finding("control_plane.credentials", "failed", str(error), remedy)]
        found.append(Finding("control_plane.credentials", "ok", f"from {keys.origin}{_lifetime(keys.expires_at)}"))
        async with client:
            found += await _namespaces(client, plane)
            found += _clock(client.clock_skew)
        return found + await _legacy(plane)
    finally:
        await transport.aclose()


def _route(plane: ControlPlaneConfig, route: Route) -> list[Finding]:
    """The proxy and the certificate authorities, if the configuration or the environment mentions any."""
    found = []
    proxy, target = route.proxy, urlsplit(endpoint_url(plane))
    if proxy is not None:
        host = target.hostname or ""
        used = "calls go" if proxy.carries(target.scheme, host) else f"calls to {host} go directly, to other hosts"
        found.append(Finding("control_plane.proxy", "ok", f"{used} through {proxy} ({proxy.origin})"))
    elif plane.proxy_from_environment:
        found.append(Finding("control_plane.proxy", "ok", "calls go directly: HTTPS_PROXY is not set"))
    elif os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        message = "calls go directly: HTTPS_PROXY is only used with control_plane.proxy_from_environment"
        found.append(Finding("control_plane.proxy", "ok", message))
    if plane.tls.ca_file is not None:
        message = f"only authorities in {plane.tls.ca_file} are trusted"
        found.append(Finding("control_plane.tls", "ok", message))
    return found


async def _namespaces(client: ControlClient, plane: ControlPlaneConfig) -> list[Finding]:
    """Findings of every namespace; stops at the first if the control plane cannot be reached."""
    places = [(client, "", namespace) for namespace in plane.namespaces]
    for more in plane.workspaces:
        other = client.of_workspace(more.workspace)
        places += [(other, f"{more.workspace}.", namespace) for namespace in more.namespaces]
    found = []
    for number, (workspace_client, prefix, namespace) in enumerate(places, start=1):
        findings, error = await _operations(workspace_client, namespace, prefix)
        found += findings
        if error is not None and error.reason in UNREACHED and number < len(places):
            message = f"{len(places) - number} more namespaces were not checked"
            found.append(Finding("control_plane", "failed", message, "correct the first failure"))
            break
    return found


def _lifetime(expires_at: float | None) -> str:
    return "" if expires_at is None else f", valid for another {max(0.0, expires_at - time.time()) / 60:.0f} min"


async def _operations(
    client: ControlClient, namespace: str, workspace: str
) -> tuple[list[Finding], ControlError | None]:
    """One call of each operation; stops at the first without any answer, as the others would also time out."""
    place = f"control_plane.{workspace}{namespace}"
    first: list[Deployment] = []

    async def by_ip() -> str:
        answer = await client.get_deployments_by_ip(namespace=namespace, src_ip=UNUSED_ADDRESS)
        return _read_whole(answer.dropped)

    async def by_label() -> str:
        answer = await client.get_deployments_by_label(namespace=namespace, key=UNUSED_NAME, values=[UNUSED_NAME])
        return _read_whole(answer.dropped)

    async def deployments() -> str:
        listing = client.list_deployments(namespace=namespace, page_size=1)
        first.extend(await anext(aiter(listing), ()))
        return _read_whole(listing.dropped) + f", {listing.total} deployments"

    async def jobs() -> str:
        listing = client.list_jobs(namespace=namespace, deployment_id=first[0].deployment_id, page_size=1)
        await anext(aiter(listing), ())
        return _read_whole(listing.dropped) + f", {listing.total} jobs of {first[0].name or first[0].deployment_id}"

    found = []
    calls = {"GetDeploymentsByIp": by_ip, "GetDeploymentsByLabel": by_label, "ListDeployments": deployments}
    for operation, ask in calls.items():
        finding, error = await _call(place, operation, ask)
        found.append(finding)
        if isinstance(error, Transient):
            return found, error
    if first:
        found.append((await _call(place, "ListJobs", jobs))[0])
    else:
        found.append(Finding(f"{place}.ListJobs", "ok", "not checked: no deployment was listed"))
    return found, None


def _read_whole(dropped: int) -> str:
    """Empty text; ProtocolError if a part of the answer is unreadable."""
    if dropped:
        raise ProtocolError(f"{dropped} elements of the answer are unreadable")
    return ""


async def _call(place: str, operation: str, ask: Callable[[], Awaitable[str]]) -> tuple[Finding, ControlError | None]:
    """The finding of one call, and its error."""
    name, start = f"{place}.{operation}", time.monotonic()
    try:
        detail = await ask()
    except ControlError as error:
        level: Level = "failed" if operation == ESSENTIAL else "degraded"
        remedy = REMEDIES.get(error.reason, PLACES)
        return Finding(name, level, f"{error}: {COSTS[operation]}", remedy), error
    return Finding(name, "ok", f"answered in {1000 * (time.monotonic() - start):.0f} ms{detail}"), None


def _clock(skew: float | None) -> list[Finding]:
    if skew is None:
        return []
    far = abs(skew) > TOLERATED_SKEW
    message = f"the control plane's clock is {abs(skew):.0f} s {'ahead' if skew >= 0 else 'behind'}"
    return [
        Finding("control_plane.clock", "degraded" if far else "ok", message, "correct this host's clock" if far else "")
    ]


async def _legacy(plane: ControlPlaneConfig) -> list[Finding]:
    """One call of the legacy operation, if enabled."""
    if not plane.blink.enabled:
        return []
    if not plane.blink.projects:
        message = "not checked: control_plane.blink.projects is empty"
        return [Finding("control_plane.blink.GetRefPackageJob", "ok", message)]
    async with blink_client(plane) as client:

        async def ask() -> str:
            listing = client.get_ref_package_job(project=plane.blink.projects[0], package=UNUSED_NAME, page_size=1)
            await anext(aiter(listing), ())
            return f" for project {plane.blink.projects[0]}"

        return [(await _call("control_plane.blink", "GetRefPackageJob", ask))[0]]
