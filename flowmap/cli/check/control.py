"""check, the control plane's part: the keys and where they came from, one call of each operation, the clocks."""

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
from flowmap.control.alibaba.http.route import Route
from flowmap.daemon.clients import control_client, control_route, credentials_provider, endpoint_url
from flowmap.errors import UNREACHED, ConfigError, ControlError, ProtocolError, Transient
from flowmap.sources.base import Finding

NOBODY = "192.0.2.1"
"""An address for documentation (RFC 5737): asking for it says whether questions are answered, and names nobody."""

NOTHING = "flowmap-check"
"""A label and a package that nobody has."""

TOLERATED_SKEW = 300.0
"""Seconds the clocks may differ before it is worth a word; the API refuses requests at 15 minutes."""

PERMISSIONS = "see control_plane.credentials and the account's permissions"
PLACES = "see control_plane.endpoint, region, workspace and namespaces"
REMEDIES = {
    "auth": PERMISSIONS,
    "dns": "see /etc/resolv.conf, control_plane.endpoint and control_plane.proxy_url",
    "proxy": "see control_plane.proxy_url and the rules of the proxy",
    "tls": "see control_plane.tls.ca_file",
}
"""By the reason of an error; others have to do with the places."""

COSTS = {
    "GetDeploymentsByIp": "no connection can be named",
    "GetDeploymentsByLabel": "control_plane.catalog.label and `flowmap deployments by-label` do not work",
    "ListDeployments": "the catalog and `flowmap deployments list` do not work",
    "ListJobs": "jobs are not told, nor the packages they use",
    "GetRefPackageJob": "jobs of the legacy product are not found",
}
"""What it costs when an operation does not answer."""

ESSENTIAL = "GetDeploymentsByIp"

Level = Literal["ok", "degraded", "failed"]


async def look(config: Config) -> list[Finding]:
    """Everything about the control plane."""
    plane = config.control_plane
    try:
        route = control_route(plane)
    except ConfigError as error:
        return [Finding("control_plane", "failed", str(error), "mend the configuration")]
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
            found += await _everywhere(client, plane)
            found += _clock(client.clock_skew)
        return found + await _legacy(plane)
    finally:
        await transport.aclose()


def _route(plane: ControlPlaneConfig, route: Route) -> list[Finding]:
    """Which proxy and which authorities are used, where anything says that one should be."""
    found = []
    proxy, target = route.proxy, urlsplit(endpoint_url(plane))
    if proxy is not None:
        host = target.hostname or ""
        told = "asked" if proxy.carries(target.scheme, host) else f"{host} is asked directly, other hosts"
        found.append(Finding("control_plane.proxy", "ok", f"{told} through {proxy} ({proxy.origin})"))
    elif plane.proxy_from_environment:
        found.append(Finding("control_plane.proxy", "ok", "asked directly: HTTPS_PROXY is not set"))
    elif os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        message = "asked directly: HTTPS_PROXY is only used with control_plane.proxy_from_environment"
        found.append(Finding("control_plane.proxy", "ok", message))
    if plane.tls.ca_file is not None:
        message = f"only authorities in {plane.tls.ca_file} are trusted"
        found.append(Finding("control_plane.tls", "ok", message))
    return found


async def _everywhere(client: ControlClient, plane: ControlPlaneConfig) -> list[Finding]:
    """Every namespace. Where the control plane cannot be reached for one, the others would only wait as long."""
    places = [(client, "", namespace) for namespace in plane.namespaces]
    for more in plane.workspaces:
        other = client.of_workspace(more.workspace)
        places += [(other, f"{more.workspace}.", namespace) for namespace in more.namespaces]
    found = []
    for number, (asked, prefix, namespace) in enumerate(places, start=1):
        findings, error = await _operations(asked, namespace, prefix)
        found += findings
        if error is not None and error.reason in UNREACHED and number < len(places):
            message = f"{len(places) - number} more namespaces were not asked"
            found.append(Finding("control_plane", "failed", message, "mend what failed first"))
            break
    return found


def _lifetime(expires_at: float | None) -> str:
    return "" if expires_at is None else f", valid for another {max(0.0, expires_at - time.time()) / 60:.0f} min"


async def _operations(
    client: ControlClient, namespace: str, workspace: str
) -> tuple[list[Finding], ControlError | None]:
    """A call of each operation, up to the first that gets no answer at all: the others would wait as long."""
    place = f"control_plane.{workspace}{namespace}"
    first: list[Deployment] = []

    async def by_ip() -> str:
        answer = await client.get_deployments_by_ip(namespace=namespace, src_ip=NOBODY)
        return _read_whole(answer.dropped)

    async def by_label() -> str:
        answer = await client.get_deployments_by_label(namespace=namespace, key=NOTHING, values=[NOTHING])
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
    asked = {"GetDeploymentsByIp": by_ip, "GetDeploymentsByLabel": by_label, "ListDeployments": deployments}
    for operation, ask in asked.items():
        finding, error = await _call(place, operation, ask)
        found.append(finding)
        if isinstance(error, Transient):
            return found, error
    if first:
        found.append((await _call(place, "ListJobs", jobs))[0])
    else:
        found.append(Finding(f"{place}.ListJobs", "ok", "not asked: no deployment was listed to ask for"))
    return found, None


def _read_whole(dropped: int) -> str:
    """Nothing to tell; ProtocolError if a part of the answer could not be read."""
    if dropped:
        raise ProtocolError(f"{dropped} elements of the answer could not be read")
    return ""


async def _call(place: str, operation: str, ask: Callable[[], Awaitable[str]]) -> tuple[Finding, ControlError | None]:
    """What one call says of its operation, and the error it ended in."""
    name, start = f"{place}.{operation}", time.monotonic()
    try:
        told = await ask()
    except ControlError as error:
        level: Level = "failed" if operation == ESSENTIAL else "degraded"
        remedy = REMEDIES.get(error.reason, PLACES)
        return Finding(name, level, f"{error}: {COSTS[operation]}", remedy), error
    return Finding(name, "ok", f"answered in {1000 * (time.monotonic() - start):.0f} ms{told}"), None


def _clock(skew: float | None) -> list[Finding]:
    if skew is None:
        return []
    far = abs(skew) > TOLERATED_SKEW
    message = f"the control plane's clock is {abs(skew):.0f} s {'ahead' if skew >= 0 else 'behind'}"
    return [
        Finding("control_plane.clock", "degraded" if far else "ok", message, "set this host's clock" if far else "")
    ]


async def _legacy(plane: ControlPlaneConfig) -> list[Finding]:
    """A call of the legacy operation, where it is switched on."""
    if not plane.blink.enabled:
        return []
    if not plane.blink.projects:
        message = "not asked: control_plane.blink.projects is empty"
        return [Finding("control_plane.blink.GetRefPackageJob", "ok", message)]
    async with blink_client(plane) as client:

        async def ask() -> str:
            listing = client.get_ref_package_job(project=plane.blink.projects[0], package=NOTHING, page_size=1)
            await anext(aiter(listing), ())
            return f" for project {plane.blink.projects[0]}"

        return [(await _call("control_plane.blink", "GetRefPackageJob", ask))[0]]
