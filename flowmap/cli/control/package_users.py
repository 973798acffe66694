"""``flowmap package-users``: find the deployments and jobs that use a JAR or Python file, and their peers.

Reads all deployments and their jobs from the control plane: a job keeps the files that its deployment had when it
started. Also reads configured projects of the legacy API, and the peers from a daemon if one is running. For
open-source Flink reads what jobs publish and, on the hosts of TaskManagers, which files they have open. Exit status 1
if the answer is incomplete. stderr has the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flowmap.cli.output import text
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.cli.shared.asking import Losses
    from flowmap.cli.shared.client import DaemonClient
    from flowmap.control.alibaba.api.packages import Found

HEADER = ("NAMESPACE", "DEPLOYMENT", "ID", "JOB", "STATUS", "FIELD", "FILE")
LEGACY_HEADER = ("PROJECT", "LEGACY JOB", "ID", "PACKAGE")
PEERS_HEADER = ("DEPLOYMENT", "PEER", "PROTOCOL", "TRANSMIT", "RECEIVE", "OPEN", "STATE")

Peers = dict[str, list[dict[str, Any]]]
"""Peers and traffic by deployment id, as the daemon reports them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, the control plane and the daemon."""
    parser.add_argument(
        "file",
        metavar="FILE_NAME",
        help="file name, like log4j-core-2.14.jar, pattern, like 'log4j-core-*.jar', or full URI; by a copy on this "
        "host, like ./orders.jar, jobs of open-source Flink are found that use the same file",
    )
    parser.add_argument(
        "--no-jobs", action="store_true", help="do not read the jobs, which costs one call for each deployment"
    )
    options.add_namespace(parser)
    options.add_config(parser)
    options.add_daemon(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search for the file and print its users."""
    from flowmap.cli.control.package_search import search
    from flowmap.cli.shared import asking
    from flowmap.cli.shared.client import connect

    config = asking.configured(arguments)
    losses = asking.Losses()
    with connect(arguments) as client:
        found = asking.run(search(arguments, config, losses))
        identities = dict.fromkeys(one.user.deployment_id for one in found if one.user.deployment_id is not None)
        peers = peers_of(list(identities), client, losses, named=arguments.url != options.DEFAULT_URL)
    if options.wants_table(arguments):
        print_tables(found, peers)
    else:
        text.print_json(as_json(arguments.file, found, peers) | {"complete": not losses})
    return losses.report()


def peers_of(identities: list[str], client: DaemonClient, losses: Losses, *, named: bool) -> Peers | None:
    """Read the peers of the deployments; None without a daemon, which is a loss only if --url was given (``named``)."""
    from flowmap.errors import QueryError

    peers: Peers = {}
    for identity in identities:
        try:
            found = client.find(f"deployments/{quote(identity, safe='')}") or {}
        except QueryError as error:
            report = losses.add if peers or named else losses.hint
            report(f"peers: {error}")
            return peers or None
        peers[identity] = [
            traffic | {"state": state}
            for state, name in (("attributed", "peers"), ("shared", "shared"))
            for traffic in found.get(name, ())
        ]
    return peers


def as_json(file: str, found: Sequence[Found], peers: Peers | None) -> dict[str, Any]:
    """The users by deployment. ``peers`` is null without a daemon.

    A deployment with empty ``files`` no longer uses the file, but older jobs of it do.
    """
    deployments: dict[str, dict[str, Any]] = {}
    legacy = []
    for user, use in found:
        file_used = {"field": use.field, "uri": use.uri}
        if user.deployment_id is None:
            legacy.append({"project": user.namespace, "jobId": user.job_id, "name": user.name, "package": use.uri})
            continue
        one = deployments.setdefault(
            user.deployment_id,
            {
                "namespace": user.namespace,
                "deploymentId": user.deployment_id,
                "name": user.name,
                "files": [],
                "jobs": {},
                "peers": None if peers is None else peers.get(user.deployment_id),
            },
        )
        if user.job_id is None:
            one["files"].append(file_used)
        else:
            job = one["jobs"].setdefault(user.job_id, {"jobId": user.job_id, "status": user.status, "files": []})
            job["files"].append(file_used)
    listed = [one | {"jobs": list(one["jobs"].values())} for one in deployments.values()]
    return {"file": file, "deployments": listed, "legacyJobs": legacy}


def print_tables(found: Sequence[Found], peers: Peers | None) -> None:
    """Print the users, the legacy jobs if there are any, and the peers if a daemon reported them."""
    own = [one for one in found if one.user.deployment_id is not None]
    legacy = [one for one in found if one.user.deployment_id is None]
    text.print_table(HEADER, [_row(one) for one in own])
    if legacy:
        print()
        rows = [(user.namespace, user.name, user.job_id, use.uri) for user, use in legacy]
        text.print_table(LEGACY_HEADER, rows)
    if peers:
        names = {one.user.deployment_id: one.user.name for one in own}
        print()
        text.print_table(PEERS_HEADER, [_peer(names[identity], one) for identity in peers for one in peers[identity]])


def _row(found: Found) -> tuple[object, ...]:
    user, use = found
    return (user.namespace, user.name, user.deployment_id, user.job_id, user.status, use.field, use.uri)


def _peer(name: str | None, peer: dict[str, Any]) -> tuple[object, ...]:
    traffic = peer["traffic"]
    return (
        name,
        peer["peer"],
        peer["protocol"],
        text.amount(traffic["transmitBytes"]),
        text.amount(traffic["receiveBytes"]),
        traffic["openConnections"],
        peer["state"],
    )
