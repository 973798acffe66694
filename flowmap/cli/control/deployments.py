"""``flowmap deployments``: list deployments by address, by label, or all.

Exit status 1 if the answer is incomplete. stderr has the reason.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flowmap.cli.output import text
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.cli.shared.asking import Losses
    from flowmap.config import Config
    from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
    from flowmap.control.alibaba.api.models import Deployment, JobSummary

HEADER = ("NAMESPACE", "DEPLOYMENT", "ID", "MODE", "JOBS", "ENGINE", "LABELS")

Found = list[tuple[str, "Deployment"]]
"""Deployments, each with the namespace that was asked."""

WAYS = {
    "by-ip": "list deployments by the endpoints of a connection; needs at least one address",
    "by-label": "list deployments by the values of a label",
    "list": "list all deployments, or those that match all filters",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="|".join(WAYS))
    for name, summary in WAYS.items():
        way = ways.add_parser(
            name, help=summary, description=summary, parents=[options.logging_parent()], allow_abbrev=False
        )
        _ARGUMENTS[name](way)
        options.add_namespace(way)
        options.add_config(way)
        options.add_output(way)


def _by_ip_arguments(parser: argparse.ArgumentParser) -> None:
    for side, meaning in (("src", "source"), ("dst", "destination")):
        parser.add_argument(f"--{side}-ip", metavar="IP", help=f"address of the {meaning}")
        parser.add_argument(f"--{side}-port", metavar="PORT", type=options.port_number, help=f"port of the {meaning}")


def _by_label_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="key of the label")
    parser.add_argument(
        "values", metavar="VALUE[,VALUE…]", type=options.values, help="value of the label, or several alternatives"
    )


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="name of the deployment")
    parser.add_argument("--status", help="state of one of its jobs, like RUNNING")
    parser.add_argument("--creator", help="id of the account that created it")
    parser.add_argument("--execution-mode", metavar="MODE", help="STREAMING or BATCH")
    parser.add_argument("--label", metavar="KEY=V1,V2", type=options.label, help="label with one of these values")


_ARGUMENTS = {"by-ip": _by_ip_arguments, "by-label": _by_label_arguments, "list": _list_arguments}


def run(arguments: argparse.Namespace) -> int:
    """Query the control plane and print the deployments."""
    from flowmap.cli.shared import asking

    config = asking.configured(arguments)
    losses = asking.Losses()
    found = asking.run(_ask(arguments, config, losses))
    if options.wants_table(arguments):
        text.print_table(HEADER, [row(namespace, one) for namespace, one in found])
    else:
        text.print_json({"deployments": [as_json(*one) for one in found], "complete": not losses})
    return losses.report()


async def _ask(arguments: argparse.Namespace, config: Config, losses: Losses) -> Found:
    from flowmap.cli.shared import asking
    from flowmap.cli.shared.flink import wanted_namespaces
    from flowmap.daemon.clients import control_client

    flink = await _flink(arguments, config, losses)
    namespaces = asking.checked(wanted_namespaces(arguments, config))
    if not namespaces:
        return flink
    async with control_client(config.control_plane) as client:
        if arguments.way == "list":
            return flink + await _list(client, arguments, namespaces, config, losses)
        ask = _by_ip if arguments.way == "by-ip" else _by_label
        pace, found = asking.Pace(config.control_plane), flink
        for namespace in namespaces:
            async with pace.call():
                answer = await ask(client, arguments, namespace)
            if answer.dropped:
                losses.add(f"{namespace}: {answer.dropped} deployments could not be read and are missing")
            found += [(namespace, deployment) for deployment in answer.deployments]
        return found


async def _flink(arguments: argparse.Namespace, config: Config, losses: Losses) -> Found:
    """What clusters of open-source Flink have; by-label finds the label ``cluster`` only."""
    from flowmap.cli.shared.flink import flink_owners, list_flink

    if arguments.way == "by-ip":
        return await flink_owners(arguments, config)
    every = await list_flink(arguments, config, losses)
    if arguments.way == "by-label":
        return [one for one in every if (one[1].labels or {}).get(arguments.key) in arguments.values]
    if arguments.creator is not None:
        return []
    found = [one for one in every if arguments.name in (None, one[1].name)]
    found = [one for one in found if arguments.execution_mode in (None, one[1].execution_mode)]
    if arguments.label is not None:
        key, values = arguments.label
        found = [one for one in found if (one[1].labels or {}).get(key) in values]
    if arguments.status is not None:
        found = [one for one in found if getattr(one[1].job_summary, arguments.status.lower(), 0)]
    return found


async def _by_ip(client: ControlClient, arguments: argparse.Namespace, namespace: str) -> DeploymentsAnswer:
    return await client.get_deployments_by_ip(
        namespace=namespace,
        src_ip=arguments.src_ip,
        src_port=arguments.src_port,
        dst_ip=arguments.dst_ip,
        dst_port=arguments.dst_port,
    )


async def _by_label(client: ControlClient, arguments: argparse.Namespace, namespace: str) -> DeploymentsAnswer:
    return await client.get_deployments_by_label(namespace=namespace, key=arguments.key, values=arguments.values)


async def _list(
    client: ControlClient,
    arguments: argparse.Namespace,
    namespaces: tuple[str, ...],
    config: Config,
    losses: Losses,
) -> Found:
    from flowmap.cli.output.progress import Progress
    from flowmap.cli.shared import asking

    filters = {name: getattr(arguments, name) for name in ("name", "status", "creator", "execution_mode", "label")}
    listings = {namespace: client.list_deployments(namespace=namespace, **filters) for namespace in namespaces}
    pace, found = asking.Pace(config.control_plane), []
    with Progress() as progress:
        for namespace, listing in listings.items():
            every = await asking.read_all(pace, listing, progress, f"deployments of {namespace}")
            losses.of_listing(listing, f"deployments of {namespace}")
            found += [(namespace, deployment) for deployment in every]
    return found


def as_json(namespace: str, deployment: Deployment) -> dict[str, Any]:
    """A deployment with the API's field names, without absent fields."""
    return {"namespace": namespace} | deployment.model_dump(mode="json", by_alias=True, exclude_none=True)


def row(namespace: str, deployment: Deployment) -> tuple[object, ...]:
    """A row of the table."""
    labels = deployment.labels
    return (
        deployment.namespace or namespace,
        deployment.name,
        deployment.deployment_id,
        deployment.execution_mode,
        jobs_in_words(deployment.job_summary),
        deployment.engine_version,
        None if labels is None else ", ".join(f"{key}={value}" for key, value in labels.items()),
    )


def jobs_in_words(summary: JobSummary | None) -> str | None:
    """``2 running, 1 failed``, or ``none``; None if the answer has no job summary."""
    if summary is None:
        return None
    counts = {name: getattr(summary, name) for name in STATES}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


STATES = ("starting", "running", "cancelling", "cancelled", "finished", "failed")
