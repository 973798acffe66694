"""calibrate: how the control plane reads src and dst, told from one connection whose deployment is known.

Asks every shape of the question, and two turned round, and sees which answers return the deployment. Exit status 0 if
a reading (``attribute.semantics``) names it, 3 if none does, 1 on an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flowmap.cli.output import text
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.attribute.questions import Owners, Shape
    from flowmap.config import Config
    from flowmap.control.alibaba.api.client import DeploymentsAnswer
    from flowmap.errors import ControlError

HEADER = ("QUESTION", "ASKED", "RETURNS IT", "OTHERS")
EXIT_NONE = 3

SHAPES = ("client", "sink", "source", "link", "exact")


class NamedEndpoint(NamedTuple):
    """What one side of a question says: parameters of GetDeploymentsByIp."""

    ip: str | None = None
    port: int | None = None


Parameters = tuple[NamedEndpoint, NamedEndpoint]
"""src and dst."""


class ShapeReply(NamedTuple):
    """What all namespaces said to one question."""

    returns: frozenset[str]
    """Ids of deployments."""
    owners: Owners
    """Of those, the ones with a job that runs, or that do not say: they can own a connection."""
    names: Mapping[str, str]
    """By id."""
    error: str = ""
    """Why there is no answer, or only a part of it."""


class ReadingFinding(NamedTuple):
    """What the replies mean."""

    semantics: str | None
    """Value for ``attribute.semantics``; None if none works."""
    because: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The connection and its deployment, and whom to ask."""
    parser.add_argument("source", metavar="SRC:PORT", type=options.end, help="the deployment's end, which opened it")
    parser.add_argument("destination", metavar="DST:PORT", type=options.end, help="the service's end")
    parser.add_argument("deployment_id", metavar="DEPLOYMENT_ID", help="id of the deployment that it belongs to")
    options.add_namespace(parser)
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask everything, and print what it means. QueryError without both ports; ControlError if a question that
    matters got no answer."""
    from flowmap.cli.shared import asking
    from flowmap.errors import QueryError

    for end, word in ((arguments.source, "SRC"), (arguments.destination, "DST")):
        if end.port is None:
            raise QueryError(f"{word}: its port is needed, for the question about this very connection")
    asked = questions(NamedEndpoint(*arguments.source), NamedEndpoint(*arguments.destination))
    config = asking.configured(arguments)
    replies = asking.run(_ask_all(arguments, config, asked))
    finding = judge(arguments.deployment_id, replies)
    if options.wants_table(arguments):
        _print(arguments.deployment_id, asked, replies, finding)
    else:
        text.print_json(as_json(arguments.deployment_id, asked, replies, finding))
    missing = [name for name in SHAPES[:3] if replies[name].error]
    if missing and finding.semantics is None:
        return asking.EXIT_PARTIAL
    return 0 if finding.semantics else EXIT_NONE


def questions(client: NamedEndpoint, service: NamedEndpoint) -> dict[str, Parameters]:
    """Every question, by its name."""
    address, nothing = NamedEndpoint(client.ip), NamedEndpoint()
    return {
        "client": (address, nothing),
        "sink": (nothing, service),
        "source": (service, nothing),
        "link": (address, service),
        "exact": (client, service),
        # No reading of the API's document answers these, unless the ends are given in the wrong order.
        "client turned round": (nothing, address),
        "exact turned round": (service, client),
    }


def judge(deployment: str, replies: Mapping[str, ShapeReply]) -> ReadingFinding:
    """Which reading names the deployment: its client's answer and its service end's answer must both return it."""
    found = {name for name, reply in replies.items() if deployment in reply.returns}
    lacking = [name for name in SHAPES[:3] if replies[name].error and name not in found]
    if "client" in found and found & {"sink", "source"}:
        if "sink" in found and not replies["source"].returns and not replies["source"].error:
            return ReadingFinding(
                "connection", "its own address and the service as destination return it, and nobody reads src"
            )
        if "source" in found or replies["source"].returns:
            return ReadingFinding("both", "its own address returns it, and the service is known as what jobs read from")
    if lacking:
        causes = "; ".join(f"{name}: {replies[name].error}" for name in lacking)
        return ReadingFinding(None, f"it cannot be told without these answers ({causes})")
    if "exact turned round" in found and "exact" not in found:
        return ReadingFinding(
            None, "the question with the ends turned round returns it: SRC must be the deployment's end"
        )
    if "client" in found:
        return ReadingFinding(
            None, "its own address returns it, but no question about the service does: is DST its real end?"
        )
    if found & {"sink", "source"}:
        return ReadingFinding(
            "dataflow",
            "the service returns it, and its own address does not; right only where nobody but deployments uses it",
        )
    return ReadingFinding(None, _why_none(found))


def _why_none(found: set[str]) -> str:
    if found:
        return f"only {', '.join(sorted(found))} returns it, and no reading rests on that alone"
    return "no question returns it: is the id right, is the connection still open, and does NAT stand between the ends?"


async def _ask_all(
    arguments: argparse.Namespace, config: Config, asked: Mapping[str, Parameters]
) -> dict[str, ShapeReply]:
    from flowmap.cli.shared import asking
    from flowmap.daemon.clients import control_client
    from flowmap.errors import UNREACHED, BadRequest, ControlError

    namespaces = asking.namespaces(arguments, config)
    pace = asking.Pace(config.control_plane)
    replies = {}
    unreached: ControlError | None = None
    async with control_client(config.control_plane) as client:
        for name, (source, destination) in asked.items():
            answers: list[tuple[str, DeploymentsAnswer | ControlError]] = []
            for namespace in namespaces:
                if unreached is not None:  # the other questions would only wait as long
                    answers.append((namespace, unreached))
                    continue
                async with pace.call():
                    try:
                        answer = await client.get_deployments_by_ip(
                            namespace=namespace,
                            src_ip=source.ip,
                            src_port=source.port,
                            dst_ip=destination.ip,
                            dst_port=destination.port,
                        )
                        answers.append((namespace, answer))
                    except BadRequest:
                        raise
                    except ControlError as error:
                        answers.append((namespace, error))
                        unreached = error if error.reason in UNREACHED else None
            replies[name] = _reply(answers, config.control_plane.workspace or "")
    return replies


def _reply(answers: Sequence[tuple[str, DeploymentsAnswer | ControlError]], workspace: str) -> ShapeReply:
    from flowmap.control.alibaba.control_plane import describe
    from flowmap.errors import ControlError
    from flowmap.model.deployment import may_own

    names: dict[str, str] = {}
    owners, errors = set(), []
    for namespace, answer in answers:
        if isinstance(answer, ControlError):
            errors.append(f"{answer.reason}: {answer}")
            continue
        infos = [describe(one, workspace, namespace, answer) for one in answer.deployments]
        names |= {info.owner.deployment_id: info.owner.name for info in infos}
        owners |= {info.owner for info in infos if may_own(info)}
        if answer.dropped:
            errors.append(f"protocol: {answer.dropped} elements of the answer could not be read")
    return ShapeReply(frozenset(names), frozenset(owners), names, "; ".join(dict.fromkeys(errors)))


def outcome(replies: Mapping[str, ShapeReply], semantics: str) -> tuple[str, list[str]]:
    """State and deployments of the connection under a reading, by the daemon's own rule."""
    from flowmap.attribute.questions import Shape, candidates, state_of

    known: dict[Shape, Owners | None] = {
        Shape(name): None if replies[name].error else replies[name].owners for name in SHAPES
    }
    owners = candidates(semantics, known)  # type: ignore[arg-type]
    if owners is None:
        return "failed", []
    return state_of(owners, len(owners)).value, sorted(owner.name for owner in owners)


def as_json(
    deployment: str, asked: Mapping[str, Parameters], replies: Mapping[str, ShapeReply], finding: ReadingFinding
) -> dict[str, Any]:
    """Everything, for programs."""
    state, names = outcome(replies, finding.semantics) if finding.semantics else (None, [])
    return {
        "deploymentId": deployment,
        "semantics": finding.semantics,
        "because": finding.because,
        "state": state,
        "deployments": names,
        "questions": [
            {
                "question": name,
                "parameters": _parameters(asked[name]),
                "returnsIt": _returns(deployment, reply),
                "others": sorted(reply.returns - {deployment}),
                "error": reply.error or None,
            }
            for name, reply in replies.items()
        ],
    }


def _print(
    deployment: str, asked: Mapping[str, Parameters], replies: Mapping[str, ShapeReply], finding: ReadingFinding
) -> None:
    rows = []
    for name, reply in replies.items():
        said = _returns(deployment, reply)
        answer = reply.error if said is None else _in_words(deployment, reply)
        others = ", ".join(sorted(reply.names[other] for other in reply.returns - {deployment}))
        asked_for = " ".join(f"{key}={value}" for key, value in _parameters(asked[name]).items())
        rows.append((name, asked_for, answer, others or None))
    text.print_table(HEADER, rows)
    print()
    print(f"attribute.semantics: {finding.semantics}" if finding.semantics else "no reading of the API works")
    print(f"  {text.clean(finding.because)}")
    if finding.semantics:
        state, names = outcome(replies, finding.semantics)
        print(f"  with it, this connection is {state}{': ' if names else ''}{text.clean(', '.join(names))}")


def _returns(deployment: str, reply: ShapeReply) -> bool | None:
    """None: without an answer, or with a part that could not be read, that it is not there says nothing."""
    return True if deployment in reply.returns else None if reply.error else False


def _in_words(deployment: str, reply: ShapeReply) -> str:
    if deployment not in reply.returns:
        return "no"
    return "yes" if any(owner.deployment_id == deployment for owner in reply.owners) else "yes, without a job that runs"


def _parameters(ends: Parameters) -> dict[str, str | int]:
    source, destination = ends
    given = {"srcIp": source.ip, "srcPort": source.port, "dstIp": destination.ip, "dstPort": destination.port}
    return {name: value for name, value in given.items() if value is not None}
