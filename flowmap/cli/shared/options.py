"""Arguments that several commands share, and their parsers."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from datetime import datetime
from typing import NamedTuple

from flowmap.errors import QueryError
from flowmap.model.address import Address, format_endpoint, protocol_name, protocol_number

DEFAULT_URL = "http://127.0.0.1:10817"


class EndpointArgument(NamedTuple):
    """An endpoint of a connection as a user types it. The port is optional."""

    ip: str
    port: int | None

    def __str__(self) -> str:
        return self.ip if self.port is None else format_endpoint(self.ip, self.port)


def endpoint(text: str) -> EndpointArgument:
    """Parse ``10.0.0.1``, ``10.0.0.1:9092``, ``2001:db8::1`` or ``[2001:db8::1]:9092``."""
    address, port = text, ""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise argparse.ArgumentTypeError(f"{text!r}: write it like [2001:db8::1]:9092")
        port = port[1:] if port else ""
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ip = str(Address.parse(address))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{address!r} is not an IP address") from None
    if text.endswith(":") and text.count(":") == 1 or text.endswith("]:"):
        raise argparse.ArgumentTypeError(f"{text!r}: the port is missing")
    return EndpointArgument(ip, port_number(port) if port else None)


def port_number(text: str) -> int:
    """Parse a port, 1 to 65535."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port between 1 and 65535")
    return int(text)


def label(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse ``KEY=V1,V2`` into the key and its alternative values."""
    key, separator, given = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r}: write it like team=orders or team=orders,billing")
    return key, values(given)


def values(text: str) -> tuple[str, ...]:
    """Parse alternatives between commas."""
    alternatives = tuple(text.split(","))
    if "" in alternatives:
        raise argparse.ArgumentTypeError(f"{text!r}: a value is missing")
    return alternatives


def protocol(text: str) -> str:
    """Parse the name or number of a protocol; returns its name if it has one."""
    try:
        return protocol_name(protocol_number(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment(text: str) -> float:
    """Parse a time as :func:`instant` does, or ``2h`` for two hours ago."""
    if text[:1].isdecimal() and text[-1].isalpha() and text[-1] not in "zZ":
        with contextlib.suppress(argparse.ArgumentTypeError):
            return time.time() - duration(text)
    return instant(text, or_else="2h for two hours ago")


def instant(text: str, *, or_else: str = "as seconds since the epoch") -> float:
    """Parse ``2026-11-21T20:16:07Z`` (local time without a zone) or a number into seconds since the epoch."""
    from flowmap.config.values import LAST_TIME

    try:
        found = float(text) if text.replace(".", "", 1).isdecimal() else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; write it like 2026-11-21T20:16:07Z, or {or_else}"
        ) from None
    if not 0 <= found <= LAST_TIME:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1970 and 9999")
    return found


def check_period(since: float | None, until: float | None) -> None:
    """QueryError if a period ends before it begins. ``until``: None is now."""
    if since is not None and since > (time.time() if until is None else until):
        where = "in the future" if until is None else "after --until"
        raise QueryError(f"--since is {where}: the period ends before it begins")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``-c FILE``."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="configuration file; default: none, only FLOWMAP__… variables"
    )


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """Add ``--namespace N``, which may be repeated."""
    parser.add_argument(
        "--namespace", metavar="N", action="append", help="namespace to ask, may be repeated; default: all configured"
    )


def logging_parent() -> argparse.ArgumentParser:
    """A parent parser with ``--log-level``, for every command and subcommand."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default=argparse.SUPPRESS,
        help="lowest level shown; debug also shows tracebacks",
    )
    return parent


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add which deployments and peers a question is about; :func:`selection` has the parameters for the daemon."""
    parser.add_argument("--deployment", metavar="D", help="id or name of a deployment, or a glob of names")
    parser.add_argument("--peer", metavar="P", help="name of a peer, address:port of a server, or a glob of either")
    parser.add_argument("--label", metavar="KEY=V1,V2", type=label, help="deployments with this label")


def add_window(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Add ``--since`` and ``--until``; ``default``: the window without them."""
    parser.add_argument(
        "--since", metavar="TIME", type=moment, help=f"start of a period, like 7d; needs history; default: {default}"
    )
    parser.add_argument("--until", metavar="TIME", type=moment, help="end of the period; default: now")


def selection(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    """Parameters of the HTTP API for :func:`add_selection`, ``--since`` and ``--until``."""
    chosen = arguments.label and f"{arguments.label[0]}={','.join(arguments.label[1])}"
    window = {"from": getattr(arguments, "since", None), "to": getattr(arguments, "until", None)}
    check_period(window["from"], window["to"])
    times = {name: None if moment is None else f"{moment:.3f}" for name, moment in window.items()}
    return {"deployment": arguments.deployment, "peer": arguments.peer, "label": chosen, **times}


def add_netns(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--netns``."""
    parser.add_argument("--netns", metavar="NAME", help=help)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add ``-o table|json``."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), help="output format; default: table on a terminal, otherwise json"
    )


def wants_table(arguments: argparse.Namespace) -> bool:
    """Whether to print a table instead of JSON."""
    return (arguments.output or ("table" if sys.stdout.isatty() else "json")) == "table"


def add_examples(parser: argparse.ArgumentParser, *examples: tuple[str, str]) -> None:
    """Add examples to the end of the help: a command line, and what it does."""
    lines = [f"  {line}\n      {meaning}" for line, meaning in examples]
    parser.epilog = "\n".join(["examples:", *lines])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_daemon(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add ``--url`` of the daemon and the login. There is no ``--password``: every user can see arguments.

    ``several``: the option may be repeated; :func:`urls` returns all.
    """
    default = os.environ.get("FLOWMAP_URL") or DEFAULT_URL
    group = parser.add_argument_group("the daemon to ask")
    if several:
        group.add_argument(
            "--url",
            action="append",
            help=f"URL of a daemon, may be repeated; default: $FLOWMAP_URL or {DEFAULT_URL}",
        )
    else:
        group.add_argument("--url", default=default, help=f"URL of the daemon; default: $FLOWMAP_URL or {DEFAULT_URL}")
    files = {
        "ca-file": "CA certificates to verify the daemon with",
        "cert-file": "client certificate",
        "key-file": "key of the client certificate",
        "password-file": "file with the password of --user; $FLOWMAP_PASSWORD may hold the password itself",
    }
    for name, meaning in files.items():
        variable = f"FLOWMAP_{name.upper().replace('-', '_')}"
        group.add_argument(
            f"--{name}", metavar="FILE", default=os.environ.get(variable), help=f"{meaning}; default: ${variable}"
        )
    group.add_argument(
        "--user", metavar="NAME", default=os.environ.get("FLOWMAP_USER"), help="user name; default: $FLOWMAP_USER"
    )


def urls(arguments: argparse.Namespace) -> list[str]:
    """The URLs of a command that takes several."""
    given: list[str] = arguments.url or [os.environ.get("FLOWMAP_URL") or DEFAULT_URL]
    return list(dict.fromkeys(given))


def duration(text: str) -> float:
    """Parse ``20s`` or ``1m`` into seconds."""
    from flowmap.config.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def size(text: str) -> int:
    """Parse ``256MiB`` into bytes."""
    from flowmap.config.values import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def listen(text: str) -> tuple[str, int]:
    """Parse a host and port to listen on."""
    from flowmap.config.values import Listen

    try:
        return Listen.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
