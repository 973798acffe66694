"""``flowmap expect``: writes the peers that deployments have, and checks that they have no others.

Exit status of ``check``: 0 as expected, 3 with findings, 78 for a file that is not valid.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

from flowmap.cli.output import text
from flowmap.cli.shared import options

HEADER = ("FINDING", "DEPLOYMENT", "PEER", "BYTES", "LAST UTC")
EXIT_FINDINGS = 3
SUBCOMMANDS = {
    "init": "write a file with the peers that were seen",
    "check": "list the peers that are new, missing or forbidden",
}
WEEK = 7 * 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two subcommands."""
    common = options.logging_parent()
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    init, check = (
        commands.add_parser(name, help=summary, description=summary, parents=[common], allow_abbrev=False)
        for name, summary in SUBCOMMANDS.items()
    )
    check.add_argument("file", metavar="FILE", help="file of expectations, as init writes it")
    for command in (init, check):
        options.add_selection(command)
        options.add_window(command, default="the time since the daemon started, or 7 days if it keeps history")
        options.add_daemon(command)
    options.add_output(check)
    examples = (
        ("flowmap expect init --since 7d > expect.yaml", "the peers of the last 7 days, as a file to edit"),
        ("flowmap expect check expect.yaml --since 7d", "exit status 3 if there is anything else; for CI and cron"),
    )
    for command in (parser, init, check):
        options.add_examples(command, *examples)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, or check it."""
    return _init(arguments) if arguments.subcommand == "init" else _check(arguments)


def _init(arguments: argparse.Namespace) -> int:
    answer = seen_by_daemon(arguments)
    print("\n".join(file_lines(answer["edges"], since=answer["from"], until=answer["to"])))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from flowmap.cli.expect.judging import finding_json, judged, without_deployment
    from flowmap.config import read_expectations

    entries = read_expectations(arguments.file) or ()
    answer = seen_by_daemon(arguments)
    # A selection leaves out traffic, so what it does not show is not missing.
    narrowed = any((arguments.deployment, arguments.peer, arguments.label))
    found = judged(entries, answer["edges"], with_missing=not narrowed)
    if options.wants_table(arguments):
        text.print_table(HEADER, [_row(finding_json(one)) for one in found])
    else:
        text.print_json({"from": answer["from"], "to": answer["to"], "findings": [finding_json(one) for one in found]})
    if not narrowed and (idle := without_deployment(entries, answer["edges"])):
        what = "1 entry is" if len(idle) == 1 else f"{len(idle)} entries are"
        sys.stderr.write(f"flowmap: {what} for no deployment that was seen: {text.clean(', '.join(idle[:5]))}\n")
    return EXIT_FINDINGS if found else 0


def seen_by_daemon(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the daemon saw of the selection. Without a window: of the last 7 days, or since it started."""
    from flowmap.cli.shared.client import connect

    asked = options.selection(arguments)
    with connect(arguments) as client:
        if arguments.since is None and arguments.until is None and client.get("status").get("history"):
            asked["from"] = f"{time.time() - WEEK:.3f}"
        return client.get("lineage", asked)


def file_lines(edges: Iterable[dict[str, Any]], *, since: str | None, until: str) -> list[str]:
    """The file: an entry for each deployment; what is shared is in the entry of each."""
    peers: dict[tuple[str, str, str], set[str]] = {}
    names: dict[tuple[str, str, str], str] = {}
    for edge in edges:
        for one in edge["deployments"]:
            key = one["workspace"], one["namespace"], one["deploymentId"]
            names[key] = one["name"] or one["deploymentId"]
            if edge["peer"] != "other":
                peers.setdefault(key, set()).add(edge["peer"])
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    lines = [
        f"# Peers seen from {since or 'the start of the daemon'} until {until}. Names may be globs (orders-*).",
        "expect:",
    ]
    for key in sorted(peers, key=lambda key: (names[key], key)):
        called = key[2] if names[key] in twice else names[key]
        comment = f"  # {names[key]}" if called != names[key] else ""
        lines.append(f"  - deployment: {json.dumps(called)}{text.clean(comment)}")
        lines.append(f"    peers: [{', '.join(json.dumps(peer) for peer in sorted(peers[key]))}]")
    return lines if len(lines) > 2 else [lines[0], "expect: []"]


def _row(finding: dict[str, Any]) -> tuple[object, ...]:
    names = ", ".join(one["name"] or one["deploymentId"] for one in finding["deployments"])
    size = None if finding["bytes"] is None else text.amount(finding["bytes"])
    return finding["kind"], names or finding["entry"], finding["peer"], size, text.moment(finding["lastSeen"])
