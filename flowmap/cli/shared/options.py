"""Arguments that several commands share, and the small languages in them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import datetime
from typing import NamedTuple

from flowmap.model.address import Address, format_endpoint, protocol_name, protocol_number

DEFAULT_URL = "http://127.0.0.1:10817"


class EndpointArgument(NamedTuple):
    """One end of a connection as typed by a user; the port may be left out."""

    ip: str
    port: int | None

    def __str__(self) -> str:
        return self.ip if self.port is None else format_endpoint(self.ip, self.port)


def end(text: str) -> EndpointArgument:
    """``10.0.0.1``, ``10.0.0.1:9092``, ``2001:db8::1`` or ``[2001:db8::1]:9092``; ValueError-like for argparse."""
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
    """A port."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port between 1 and 65535")
    return int(text)


def label(text: str) -> tuple[str, tuple[str, ...]]:
    """Key and alternative values of ``KEY=V1,V2``."""
    key, separator, given = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r}: write it like team=orders or team=orders,billing")
    return key, values(given)


def values(text: str) -> tuple[str, ...]:
    """Alternatives between commas."""
    alternatives = tuple(text.split(","))
    if "" in alternatives:
        raise argparse.ArgumentTypeError(f"{text!r}: a value is missing")
    return alternatives


def protocol(text: str) -> str:
    """A protocol by name or number, in its usual form."""
    try:
        return protocol_name(protocol_number(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment(text: str) -> float:
    """As :func:`instant`, or of ``2h``, which is so long ago."""
    if text[:1].isdecimal() and text[-1].isalpha() and text[-1] not in "zZ":
        return time.time() - duration(text)
    return instant(text, or_else="2h for two hours ago")


def instant(text: str, *, or_else: str = "as seconds since the epoch") -> float:
    """Seconds since the epoch of ``2026-11-21T20:16:07Z`` (local time without a zone), or of a number of them."""
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; write it like 2026-11-21T20:16:07Z, or {or_else}"
        ) from None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    """``-c FILE``."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="configuration file; without it defaults and FLOWMAP__… only"
    )


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """``--namespace N``, any number of times."""
    parser.add_argument(
        "--namespace", metavar="N", action="append", help="ask this one only, may be repeated; default: all configured"
    )


def logging_parent() -> argparse.ArgumentParser:
    """``--log-level`` for every command and subcommand."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default=argparse.SUPPRESS,
        help="least level shown; debug also shows tracebacks",
    )
    return parent


def add_output(parser: argparse.ArgumentParser) -> None:
    """``-o table|json``."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), help="form of the answer; default: table on a terminal, else json"
    )


def wants_table(arguments: argparse.Namespace) -> bool:
    """Whether the answer is for people."""
    return (arguments.output or ("table" if sys.stdout.isatty() else "json")) == "table"


def add_daemon(parser: argparse.ArgumentParser) -> None:
    """``--url URL`` of the daemon, and what it takes to be let in. No password: arguments can be seen by all."""
    parser.add_argument(
        "--url",
        default=os.environ.get("FLOWMAP_URL") or DEFAULT_URL,
        help=f"the daemon to ask; default: $FLOWMAP_URL or {DEFAULT_URL}",
    )
    files = {
        "ca-file": "authorities of the daemon's certificate",
        "cert-file": "certificate to show to the daemon",
        "key-file": "its key",
        "password-file": "password, for a daemon with users; or the password itself in $FLOWMAP_PASSWORD",
    }
    for name, meaning in files.items():
        variable = f"FLOWMAP_{name.upper().replace('-', '_')}"
        parser.add_argument(
            f"--{name}", metavar="FILE", default=os.environ.get(variable), help=f"{meaning}; default: ${variable}"
        )
    parser.add_argument(
        "--user", metavar="NAME", default=os.environ.get("FLOWMAP_USER"), help="user name; default: $FLOWMAP_USER"
    )


def duration(text: str) -> float:
    """Seconds of ``20s`` or ``1m``."""
    from flowmap.config.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def size(text: str) -> int:
    """Bytes of ``256MiB``."""
    from flowmap.config.values import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def listen(text: str) -> tuple[str, int]:
    """Host and port to listen on."""
    from flowmap.config.values import Listen

    try:
        return Listen.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
