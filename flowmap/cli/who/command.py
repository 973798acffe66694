"""``flowmap who``: the text of a process list or a log, with the owners of the connections in it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flowmap.cli.output import text
from flowmap.cli.shared import options
from flowmap.cli.who.mentions import Mention, Place
from flowmap.cli.who.reader import Line, TextReader
from flowmap.errors import QueryError

if TYPE_CHECKING:
    from flowmap.cli.shared.client import DaemonClient
    from flowmap.cli.who.asking import Answers

LINES = 10_000
"""Lines read before those that are read are asked about and printed."""
LONGEST = 1 << 20
"""Characters of a line in which endpoints are looked for."""

EXIT_WHOLE, EXIT_PARTIAL = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, what the text does not say, and the daemons to ask."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="text to read; default: standard input")
    parser.add_argument(
        "--service",
        metavar="IP:PORT",
        type=options.endpoint,
        help="the server endpoint, if the text names clients only: a client port may have several connections",
    )
    parser.add_argument(
        "--at",
        metavar="TIME",
        type=options.moment,
        help="time of the connections, like 2h (two hours ago); default: now",
    )
    parser.add_argument("--summary", action="store_true", help="print the number of connections by deployment instead")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format; default: text")
    options.add_daemon(parser, several=True)
    options.add_examples(
        parser,
        ("mariadb -e 'SHOW PROCESSLIST' | flowmap who", "the list, with the deployment beside each connection"),
        ("flowmap who --summary --at 2026-11-21T20:16:07Z broker.log", "how many connections each deployment had then"),
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the text, ask the daemons, print."""
    from flowmap.cli.shared.client import connect

    if arguments.service is not None and arguments.service.port is None:
        raise QueryError("--service: write it with its port, like 10.0.0.9:3306")
    with contextlib.ExitStack() as stack:
        clients = {url: stack.enter_context(connect(arguments, url)) for url in options.urls(arguments)}
        return _Run(arguments, clients).print(stack.enter_context(_opened(arguments.file)))


class _Run:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, clients: dict[str, DaemonClient]) -> None:
        self._arguments = arguments
        self._clients = clients
        self._failures: dict[str, None] = {}

    def print(self, lines: Iterator[str]) -> int:
        from flowmap.cli.who.printing import SUMMARY, Summary, annotated, line_json

        arguments, summary, number, listed = self._arguments, Summary(), 0, []
        for part in self._parts(lines):
            answers = self._ask(part)
            summary.add(part, answers)
            for line in part:
                number += 1
                if arguments.output == "json" and (line.mentions or line.remark):
                    listed.append(line_json(number, line, answers))
                elif arguments.output == "text" and not arguments.summary:
                    _write(annotated(line, answers))
        if arguments.output == "json":
            text.print_json({"summary": summary.as_json()} | ({} if arguments.summary else {"lines": listed}))
        elif arguments.summary:
            text.print_table(SUMMARY, summary.rows())
        for failure in self._failures:
            sys.stderr.write(f"flowmap: {text.clean(failure)}; the answer is incomplete\n")
        return EXIT_PARTIAL if self._failures else EXIT_WHOLE

    def _parts(self, lines: Iterator[str]) -> Iterator[list[Line]]:
        """The lines in parts of one request each."""
        from flowmap.cli.who.asking import BATCH

        reader, part, mentioned = TextReader(), list[Line](), set[Mention]()
        for raw in lines:
            line = self._with_service(reader.read(raw) if len(raw) <= LONGEST else Line(raw))
            if len(mentioned.union(line.mentions)) > BATCH or len(part) == LINES:
                yield part
                part, mentioned = [], set()
            part.append(line)
            mentioned.update(line.mentions)
        yield part

    def _with_service(self, line: Line) -> Line:
        service = self._arguments.service
        if service is None or not line.mentions:
            return line
        server = Place(service.ip, service.port)
        given = tuple(one if one.server else one._replace(server=server) for one in line.mentions)
        return line._replace(mentions=given)

    def _ask(self, part: list[Line]) -> Answers:
        from flowmap.cli.who.asking import ask

        mentions = list(dict.fromkeys(mention for line in part for mention in line.mentions))
        if not mentions:
            return {}
        return ask(self._clients, mentions, self._arguments.at, failed=lambda why: self._failures.setdefault(why))


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[Iterator[str]]:
    """The lines of a file or of standard input without their line breaks. Bytes that are no text stay as they are."""
    if path is None:
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield (line.rstrip("\r\n") for line in sys.stdin)
        return
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            yield (line.rstrip("\r\n") for line in file)
    except OSError as error:
        raise QueryError(f"{path}: {error.strerror}") from error


def _write(line: str) -> None:
    """Print a line with the bytes it was read with; on a terminal without what could steer it."""
    if sys.stdout.isatty():
        print("\t".join(text.shown(text.clean(part)) for part in line.split("\t")))
    else:
        text.print_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
