"""``flowmap calibrate``: find out how the API reads src and dst, from a connection whose deployment is known.

Asks every question shape, and two with the endpoints swapped. Exit status 0 if a value of ``attribute.semantics``
names the deployment, 3 if none does, 1 on an error.

With ``--watch`` it asks one question again and again while the client's address changes hands, and prints bounds of
``attribute.answer_age``. Exit status 0 if it gives a bound, 3 if not, 1 on an error.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flowmap.cli.output import text
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.attribute.questions import Owners, Question, Semantics
    from flowmap.cli.control.answer_age import Sample
    from flowmap.config import Config
    from flowmap.control.alibaba.api.client import DeploymentsAnswer
    from flowmap.errors import ControlError

HEADER = ("QUESTION", "PARAMETERS", "RETURNS IT", "OTHERS")
EXIT_NONE = 3

ENDPOINT_SHAPES = ("client", "sink", "source")
"""Questions about one endpoint; a reading of the API combines their answers."""


class ShapeReply(NamedTuple):
    """The answers of all namespaces to one question."""

    returns: frozenset[str]
    """Ids of the deployments returned."""
    owners: Owners
    """Those of them that can own a connection: with a running job, or without a job summary."""
    names: Mapping[str, str]
    """Names of the deployments, by id."""
    error: str = ""
    """Why the answer is missing or incomplete."""


class ReadingFinding(NamedTuple):
    """The conclusion from all replies."""

    semantics: Semantics | None
    """Value for ``attribute.semantics``; None if no value works."""
    because: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the connection, its deployment, and the control plane."""
    parser.add_argument("source", metavar="SRC:PORT", type=options.endpoint, help="client endpoint, of the deployment")
    parser.add_argument(
        "destination", metavar="DST:PORT", type=options.endpoint, help="server endpoint, of the service"
    )
    parser.add_argument("deployment_id", metavar="DEPLOYMENT_ID", help="id of the deployment that owns the connection")
    parser.add_argument(
        "--watch",
        metavar="DURATION",
        type=options.duration,
        help="measure attribute.answer_age instead: repeat the question about SRC for so long (5m), during which the "
        "deployment must get or lose that address",
    )
    parser.add_argument(
        "--changed-at",
        metavar="WHEN",
        type=options.instant,
        help="with --watch: when the address changed hands, such as the start of its first connection in flowmap flows",
    )
    options.add_namespace(parser)
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask all questions and print the conclusion.

    QueryError without both ports; ControlError if a required question got no answer.
    """
    from flowmap.cli.shared import asking
    from flowmap.errors import QueryError

    for endpoint, word in ((arguments.source, "SRC"), (arguments.destination, "DST")):
        if endpoint.port is None:
            raise QueryError(f"{word}: the port is missing; one question needs both ports of the connection")
    if arguments.changed_at is not None and arguments.watch is None:
        raise QueryError("--changed-at: it is the moment of a change that --watch DURATION observes")
    asked = questions(arguments.source, arguments.destination)
    config = asking.configured(arguments)
    if not config.control_plane.enabled:
        raise QueryError("calibrate: it finds attribute.semantics, which clusters of open-source Flink do not need")
    if arguments.watch is not None:
        return _watch(arguments, config, asked)
    replies = asking.run(_ask_all(arguments, config, asked))
    finding = judge(arguments.deployment_id, replies)
    if options.wants_table(arguments):
        _print(arguments.deployment_id, asked, replies, finding)
    else:
        text.print_json(as_json(arguments.deployment_id, asked, replies, finding))
    missing = [name for name in ENDPOINT_SHAPES if replies[name].error]
    if missing and finding.semantics is None:
        return asking.EXIT_PARTIAL
    return 0 if finding.semantics else EXIT_NONE


def _watch(arguments: argparse.Namespace, config: Config, asked: Mapping[str, Question]) -> int:
    """Watch a change of the client's address, and print the bounds that follow from it."""
    from flowmap.cli.control import answer_age
    from flowmap.cli.shared import asking

    samples = asking.run(_samples(arguments, config, asked["client"]))
    finding = answer_age.learn(samples, arguments.changed_at)
    if options.wants_table(arguments):
        print("\n".join(answer_age.lines(finding, len(samples))))
    else:
        text.print_json(answer_age.as_json(finding, len(samples)))
    if all(sample.named is None for sample in samples):
        return asking.EXIT_PARTIAL
    return EXIT_NONE if answer_age.suggestion(finding) is None else 0


def questions(source: options.EndpointArgument, destination: options.EndpointArgument) -> dict[str, Question]:
    """Every question by its name, of no namespace."""
    from flowmap.attribute.questions import Question, Shape
    from flowmap.model.address import Address, Endpoint

    client, service = (Endpoint(Address.parse(end.ip), end.port or 0) for end in (source, destination))
    address = Endpoint(client.address, 0)
    return {
        "client": Question("", Shape.CLIENT, address, None),
        "sink": Question("", Shape.SINK, None, service),
        "source": Question("", Shape.SOURCE, service, None),
        "link": Question("", Shape.LINK, address, service),
        "exact": Question("", Shape.EXACT, client, service),
        # Under each reading of the API these return the deployment only if the user swapped the endpoints.
        "client swapped": Question("", Shape.SINK, None, address),
        "exact swapped": Question("", Shape.EXACT, service, client),
    }


def judge(deployment: str, replies: Mapping[str, ShapeReply]) -> ReadingFinding:
    """Decide which semantics name the deployment: the answers for client and server must both return it."""
    found = {name for name, reply in replies.items() if deployment in reply.returns}
    lacking = [name for name in ENDPOINT_SHAPES if replies[name].error and name not in found]
    if "client" in found and found & {"sink", "source"}:
        if "sink" in found and not replies["source"].returns and not replies["source"].error:
            return ReadingFinding(
                "connection", "its own address and the service as dst return it, and the service as src returns nothing"
            )
        if "source" in found or replies["source"].returns:
            return ReadingFinding("both", "its own address returns it, and the service as src returns deployments")
    if lacking:
        causes = "; ".join(f"{name}: {replies[name].error}" for name in lacking)
        return ReadingFinding(None, f"answers are missing ({causes})")
    if "exact swapped" in found and "exact" not in found:
        return ReadingFinding(
            None, "the question with swapped endpoints returns it: SRC must be the client, of the deployment"
        )
    if "client" in found:
        return ReadingFinding(
            None,
            "its own address returns it, but no question about the service does: is DST the real server?",
        )
    if found & {"sink", "source"}:
        return ReadingFinding(
            "dataflow",
            "the service returns it, and its own address does not; right only if no other clients use the service",
        )
    return ReadingFinding(None, _why_none(found))


def _why_none(found: set[str]) -> str:
    if found:
        return f"only {', '.join(sorted(found))} returns it, and no semantics use that alone"
    return "no question returns it: is the id right, is the connection still open, and is there NAT in between?"


async def _ask_all(
    arguments: argparse.Namespace, config: Config, asked: Mapping[str, Question]
) -> dict[str, ShapeReply]:
    from flowmap.cli.shared import asking
    from flowmap.control.alibaba.control_plane import ask_owners
    from flowmap.daemon.clients import control_client
    from flowmap.errors import UNREACHED, BadRequest, ControlError

    namespaces = asking.namespaces(arguments, config)
    pace = asking.Pace(config.control_plane)
    replies = {}
    unreached: ControlError | None = None
    async with control_client(config.control_plane) as client:
        for name, question in asked.items():
            answers: list[tuple[str, DeploymentsAnswer | ControlError]] = []
            for namespace in namespaces:
                if unreached is not None:  # each further call would wait for the same timeout
                    answers.append((namespace, unreached))
                    continue
                async with pace.call():
                    try:
                        ends = question.source, question.destination
                        answers.append((namespace, await ask_owners(client, question.workspace, namespace, *ends)))
                    except BadRequest:
                        raise
                    except ControlError as error:
                        answers.append((namespace, error))
                        unreached = error if error.reason in UNREACHED else None
            replies[name] = _reply(answers, config.control_plane.workspace or "")
    return replies


async def _samples(arguments: argparse.Namespace, config: Config, question: Question) -> list[Sample]:
    from flowmap.cli.control import answer_age
    from flowmap.cli.output.progress import Progress
    from flowmap.cli.shared import asking
    from flowmap.control.alibaba.control_plane import ask_owners
    from flowmap.daemon.clients import control_client
    from flowmap.errors import BadRequest, ControlError

    namespaces = asking.namespaces(arguments, config)
    pace = asking.Pace(config.control_plane)
    async with control_client(config.control_plane) as client:

        async def ask() -> Sample:
            began = time.time()
            replies: list[tuple[DeploymentsAnswer, ShapeReply]] = []
            for namespace in namespaces:
                async with pace.call():
                    try:
                        answer = await ask_owners(client, question.workspace, namespace, question.source, None)
                    except BadRequest:
                        raise
                    except ControlError:
                        return answer_age.Sample(began, time.time(), None)
                replies.append((answer, _reply([(namespace, answer)], config.control_plane.workspace or "")))
            return _sample(arguments.deployment_id, replies)

        with Progress() as progress:
            return await answer_age.watch(
                ask, progress.show, seconds=arguments.watch, pause=config.attribute.recheck, sleep=asyncio.sleep
            )


def _sample(deployment: str, replies: Sequence[tuple[DeploymentsAnswer, ShapeReply]]) -> Sample:
    """The answers of all namespaces as one."""
    from flowmap.cli.control.answer_age import Sample

    for answer, reply in replies:
        if any(owner.deployment_id == deployment for owner in reply.owners):
            return Sample(answer.asked_at, answer.answered_at, True)
    whole = not any(reply.error for _, reply in replies)
    asked, arrived = min(one.asked_at for one, _ in replies), max(one.answered_at for one, _ in replies)
    return Sample(asked, arrived, False if whole else None)


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


def outcome(
    asked: Mapping[str, Question], replies: Mapping[str, ShapeReply], semantics: Semantics
) -> tuple[str, list[str]]:
    """State and deployments of the connection under a reading, by the daemon's own rule."""
    from flowmap.attribute.questions import combine, state_of

    known = {asked[name]: None if replies[name].error else replies[name].owners for name in ENDPOINT_SHAPES}
    owners = combine(semantics, known)
    if owners is None:
        return "failed", []
    return state_of(owners, len(owners)).value, sorted(owner.name for owner in owners)


def as_json(
    deployment: str, asked: Mapping[str, Question], replies: Mapping[str, ShapeReply], finding: ReadingFinding
) -> dict[str, Any]:
    """The result as JSON."""
    state, names = outcome(asked, replies, finding.semantics) if finding.semantics else (None, [])
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
    deployment: str, asked: Mapping[str, Question], replies: Mapping[str, ShapeReply], finding: ReadingFinding
) -> None:
    rows = []
    for name, reply in replies.items():
        returned = _returns(deployment, reply)
        answer = reply.error if returned is None else _in_words(deployment, reply)
        others = ", ".join(sorted(reply.names[other] for other in reply.returns - {deployment}))
        asked_for = " ".join(f"{key}={value}" for key, value in _parameters(asked[name]).items())
        rows.append((name, asked_for, answer, others or None))
    text.print_table(HEADER, rows)
    print()
    print(f"attribute.semantics: {finding.semantics}" if finding.semantics else "attribute.semantics: no value works")
    print(f"  {text.clean(finding.because)}")
    if finding.semantics:
        state, names = outcome(asked, replies, finding.semantics)
        print(f"  with this value, the connection is {state}{': ' if names else ''}{text.clean(', '.join(names))}")


def _returns(deployment: str, reply: ShapeReply) -> bool | None:
    """Whether the reply has the deployment; None if it is absent from an incomplete answer."""
    return True if deployment in reply.returns else None if reply.error else False


def _in_words(deployment: str, reply: ShapeReply) -> str:
    if deployment not in reply.returns:
        return "no"
    return "yes" if any(owner.deployment_id == deployment for owner in reply.owners) else "yes, without a running job"


def _parameters(question: Question) -> dict[str, str | int]:
    given: dict[str, str | int] = {}
    for side, endpoint in (("src", question.source), ("dst", question.destination)):
        if endpoint is not None:
            given[f"{side}Ip"] = str(endpoint.address)
            if endpoint.port:
                given[f"{side}Port"] = endpoint.port
    return given
