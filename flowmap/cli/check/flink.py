"""Checks of clusters of open-source Flink: reached, version, TaskManagers, the clock."""

from __future__ import annotations

import math
import time

from flowmap.config import Config
from flowmap.control.flink.cluster import SILENT, Cluster
from flowmap.control.flink.control_plane import FlinkControlPlane
from flowmap.daemon.flink_clients import flink_control_plane
from flowmap.errors import ConfigError, ControlError
from flowmap.sources.base import Finding

TOLERATED_SKEW = 5.0
"""Seconds of clock difference that are ok. flowmap converts the JobManager's times, so more is only a hint."""


async def look(config: Config) -> list[Finding]:
    """The findings about every cluster."""
    if not config.flink.enabled:
        return []
    try:
        plane = flink_control_plane(config.flink)
    except ConfigError as error:
        return [Finding("flink", "failed", str(error), "correct the configuration")]
    try:
        found = await _kubernetes(plane) if config.flink.kubernetes.enabled else []
        return found + [finding for cluster in plane.clusters.values() for finding in await _of_cluster(cluster)]
    finally:
        await plane.aclose()


async def _kubernetes(plane: FlinkControlPlane) -> list[Finding]:
    await plane.look_for_clusters()
    if plane.discovery_error is not None:
        remedy = "see flink.kubernetes and the rights in config/kubernetes/flink.yaml"
        return [Finding("flink.kubernetes", "failed", f"{plane.discovery_error}: no cluster is found", remedy)]
    return [Finding("flink.kubernetes", "ok", f"{len(plane.clusters)} clusters: {', '.join(plane.clusters) or 'none'}")]


async def _of_cluster(cluster: Cluster) -> list[Finding]:
    name, began = f"flink.{cluster.name}", time.monotonic()
    try:
        await cluster.read_once()
    except ControlError as error:
        remedy = "see the cluster's urls, tls, bearer_token_file, basic_auth and path_prefix"
        cost = "connections of its addresses, and of addresses that no cluster has, stay pending"
        return [Finding(name, "failed", f"{error}: {cost}", remedy)]
    took = 1000 * (time.monotonic() - began)
    jobs = [job for job in cluster.jobs.values() if not job.over]
    facts = f"Flink {cluster.version}, {len(cluster.task_managers)} TaskManagers, {len(jobs)} jobs"
    found = [Finding(name, "ok", f"{cluster.rest.url} answered in {took:.0f} ms: {facts}")]
    if cluster.may_miss_leader:
        message = "high availability, and one JobManager answered: the ports of another one that leads are not known"
        remedy = "list the URLs of all JobManagers, or set high-availability.jobmanager.port and blob.server.port"
        found.append(Finding(f"{name}.leader", "degraded", message, remedy))
    return found + _task_managers(cluster, name) + _local(cluster, name) + _clock(cluster, name)


def _task_managers(cluster: Cluster, name: str) -> list[Finding]:
    silent = cluster.silent()
    addresses = [address for one in cluster.task_managers.values() for address in one.addresses]
    twice = sorted({str(address) for address in addresses if addresses.count(address) > 1})
    found = []
    if silent:
        message = f"no heartbeat for {SILENT:.0f} s: {', '.join(silent)}"
        found.append(Finding(f"{name}.taskmanagers", "degraded", message, "connections from there stay pending"))
    if twice:
        message = f"several TaskManagers share {', '.join(twice)}: their jobs stay a set"
        found.append(Finding(f"{name}.addresses", "degraded", message, "give each an address of its own"))
    if not silent and not twice:
        message = f"{len(cluster.task_managers)} TaskManagers are alive, each with an address of its own"
        found.append(Finding(f"{name}.taskmanagers", "ok", message))
    return found


def _local(cluster: Cluster, name: str) -> list[Finding]:
    """Which TaskManagers run on this host, and whether their sockets can be told from those of other programs."""
    local = cluster.host.of([cluster.process(one) for one in cluster.task_managers])
    if not local:
        return []
    shared = [one for one in local if one.mixed_until == math.inf]
    if unknown := [one.process.partition("/")[2] for one in shared if not one.pids]:
        message = f"other programs are in the cgroup of {', '.join(unknown)}: connections may be its own or theirs"
        remedy = "start each as a unit or container of its own, or set collect.sockets.processes: all"
        return [Finding(f"{name}.local", "degraded", message, remedy)]
    how = f"{len(local) - len(shared)} by a cgroup of their own, {len(shared)} by their process"
    message = f"the sockets of {len(local)} TaskManagers on this host are identified: {how}"
    return [Finding(f"{name}.local", "ok", message)]


def _clock(cluster: Cluster, name: str) -> list[Finding]:
    skew = cluster.clock_skew
    if skew is None:
        return [Finding(f"{name}.clock", "ok", "not known: no job runs")]
    message = f"the JobManager's clock is {abs(skew):.1f} s {'ahead' if skew >= 0 else 'behind'}"
    return [Finding(f"{name}.clock", "degraded" if abs(skew) > TOLERATED_SKEW else "ok", message)]
