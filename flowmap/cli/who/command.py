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
from flowmap.cli.who.pieces import BYTE_ORDER_MARK, LONGEST, Piece, opened
from flowmap.cli.who.reader import Line, TextReader
from flowmap.errors import QueryError

if TYPE_CHECKING:
    from flowmap.cli.shared.client import DaemonClient
    from flowmap.cli.who.asking import Answers, Attribution

LINES, CHARACTERS = 10_000, 1 << 23
"""Read before what is read is asked about and printed."""

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
    options.add_netns(parser, "network namespace of the connections, by its name or inode, or host; default: any")
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
        return _Run(arguments, clients).print(stack.enter_context(opened(arguments.file)))


class _Run:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, clients: dict[str, DaemonClient]) -> None:
        self._arguments = arguments
        self._clients = clients
        self._failures: dict[str, None] = {}
        self._too_long = 0

    def print(self, pieces: Iterator[Piece]) -> int:
        from flowmap.cli.who.printing import SUMMARY, Summary, annotated, line_json

        arguments, summary, number, listed = self._arguments, Summary(), 1, []
        for read in self._parts(pieces):
            part, answers = self._answered(read)
            if arguments.summary or arguments.output == "json":
                summary.add(part, answers)
            for line in part:
                if arguments.output == "json" and (line.mentions or line.remark):
                    listed.append(line_json(number, line, answers))
                elif arguments.output == "text" and not arguments.summary:
                    _write(annotated(line, answers), line.end)
                number += line.end != ""
        if arguments.output == "json":
            text.print_json({"summary": summary.as_json()} | ({} if arguments.summary else {"lines": listed}))
        elif arguments.summary:
            text.print_table(SUMMARY, summary.rows())
        if self._too_long:
            why = f"lines longer than {LONGEST:,} characters, which were not searched: {self._too_long}"
            self._failures[why] = None
        for failure in self._failures:
            sys.stderr.write(f"flowmap: {text.clean(failure)}; the answer is incomplete\n")
        return EXIT_PARTIAL if self._failures else EXIT_WHOLE

    def _parts(self, pieces: Iterator[Piece]) -> Iterator[list[Line]]:
        """The lines in parts of one request each."""
        from flowmap.cli.who.asking import BATCH

        reader, part, mentioned, size = TextReader(), list[Line](), set[Mention](), 0
        for piece in pieces:
            line = Line(piece.text, end=piece.end)
            if piece.whole:
                read = reader.read(piece.text.removeprefix(BYTE_ORDER_MARK))
                line = self._with_service(read)._replace(text=piece.text, end=piece.end)
            self._too_long += piece.first and not piece.whole
            new = sum(one not in mentioned for one in line.mentions)
            if len(mentioned) + new > BATCH or len(part) == LINES or size > CHARACTERS:
                yield part
                part, mentioned, size = [], set(), 0
            part.append(line)
            mentioned.update(line.mentions)
            size += len(piece.text)
        yield part

    def _with_service(self, line: Line) -> Line:
        service = self._arguments.service
        if service is None or not line.mentions:
            return line
        server = Place(service.ip, service.port)
        given = (one if one.server or one.client == server else one._replace(server=server) for one in line.mentions)
        return line._replace(mentions=tuple(given))

    def _answered(self, part: list[Line]) -> tuple[list[Line], Answers]:
        """The lines, and what is known of all that they mention.

        Two endpoints that only stand in one line and are no connection that flowmap saw are asked about one by one.
        """
        answers = self._ask(part)
        lines = [self._apart(line, answers) for line in part]
        return lines, {**answers, **self._ask([line for line in lines if not answers.keys() >= set(line.mentions)])}

    def _apart(self, line: Line, answers: Answers) -> Line:
        if not any(one.loose and not answers[one]["observed"] for one in line.mentions):
            return line
        apart = tuple(end for one in line.mentions for end in one.apart())
        return self._with_service(line._replace(mentions=apart))

    def _ask(self, part: list[Line]) -> Answers:
        from flowmap.cli.who.asking import BATCH, ask

        mentions = list(dict.fromkeys(mention for line in part for mention in line.mentions))
        answers: dict[Mention, Attribution] = {}
        for start in range(0, len(mentions), BATCH):
            batch = mentions[start : start + BATCH]
            at, netns = self._arguments.at, self._arguments.netns
            answers |= ask(self._clients, batch, at, netns, failed=lambda why: self._failures.setdefault(why))
        return answers


def _write(line: str, end: str) -> None:
    """Print a line with the bytes it was read with; on a terminal without what could steer it."""
    if sys.stdout.isatty():
        print("\t".join(text.shown(text.clean(part)) for part in line.split("\t")), end="\n" if end else "")
    else:
        text.print_bytes((line + end).encode("utf-8", "surrogateescape"))
