"""The ``flowmap`` command: its parser, exit statuses and errors."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from flowmap import __version__, errors
from flowmap.cli.failures import describe
from flowmap.cli.output.text import clean, escape_what_streams_lack
from flowmap.cli.shared import options
from flowmap.cli.shared.environment import leave_out_httpx_command
from flowmap.system.descriptors import hold_standard
from flowmap.system.inherited import own_signals

EXIT_FAILURE = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h
EXIT_INTERRUPTED = 130  # what a shell reports for SIGINT
EXIT_BROKEN_PIPE = 141  # the same for SIGPIPE


class Entry(NamedTuple):
    """A command: its module below ``flowmap.cli``, and what it does in one line."""

    module: str
    summary: str


GROUPS: dict[str, dict[str, Entry]] = {
    "traffic, from a running daemon": {
        "query": Entry("traffic.query", "show which deployment owns a connection"),
        "who": Entry("who.command", "add the owners of connections to any text: process lists, logs"),
        "flows": Entry("traffic.flows", "list connections and their deployments"),
        "top": Entry("top.command", "show live traffic in the terminal; the keys lead to connections and explanations"),
        "peers": Entry("traffic.peers", "list the peers of a deployment in a period, and which are new or gone"),
        "stale": Entry(
            "traffic.stale", "list connections left by an earlier run or an ended job, idle, or too many to one peer"
        ),
        "lineage": Entry("lineage.command", "show what each deployment reads from and writes to, as observed"),
        "expect": Entry("expect.command", "write or check which peers each deployment may have"),
    },
    "control plane": {
        "deployments": Entry("control.deployments", "list deployments by address, by label, or all"),
        "jobs": Entry("control.jobs", "list the jobs of a deployment"),
        "packages": Entry("control.packages", "list jobs of the legacy Blink product that use a package"),
        "package-users": Entry(
            "control.package_users", "find the deployments and jobs that use a JAR or Python file, and their peers"
        ),
        "calibrate": Entry(
            "control.calibrate",
            "find out how the API reads src and dst, or how old its data is, from a connection with a known deployment",
        ),
    },
    "daemon": {
        "run": Entry("daemon.run", "run the daemon in the foreground until SIGTERM"),
        "check": Entry("check.command", "test configuration, privileges and control plane before running the daemon"),
        "config": Entry("daemon.config", "print the effective configuration, with secrets masked"),
        "reload": Entry("daemon.reload", "make a running daemon reload its configuration"),
        "health": Entry("daemon.health", "report whether the configured daemon works, for container health checks"),
        "opener": Entry("opener.command", "open sockets in other network namespaces for the daemon"),
        "fleet": Entry("fleet.command", "test what hosts share, make the tables of all hosts, and query them"),
    },
    "without daemon or account": {
        "demo": Entry(
            "sandbox.demo", "run a control plane, jobs with real connections, and the daemon on this machine"
        ),
        "replay": Entry("replay.command", "attribute a capture file, or a recording made by flowmap run --record"),
        "sandbox": Entry("sandbox.sandbox", "run the embedded control plane alone, on loopback"),
    },
}
"""The commands in the order of the help. Each module has ``add_arguments(parser)`` and ``run(arguments)``."""

COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}
"""Every command, by its name."""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. SystemExit with status 2 for wrong usage."""
    hold_standard()
    own_signals()
    leave_out_httpx_command()
    escape_what_streams_lack()
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words)
    try:
        status = _command(arguments.command)(arguments)
        sys.stdout.flush()
        return status
    except errors.ConfigError as error:
        return _fail(error, EXIT_CONFIG, arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout is gone. With another stdout the flush at exit is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except errors.FlowmapError as error:
        return _fail(error, EXIT_FAILURE, arguments)
    except Exception as error:  # a user gets one line, never a traceback
        return _fail(error, EXIT_FAILURE, arguments)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for a command line. Only the command that is in it is imported and has arguments."""
    common = options.logging_parent()
    parser = argparse.ArgumentParser(
        prog="flowmap",
        usage="flowmap [-h] [--version] [--log-level LEVEL] COMMAND ...",
        description="Which Flink job is behind this network connection?",
        epilog=_overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"flowmap {__version__}")
    commands = parser.add_subparsers(
        prog="flowmap", dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, description=summary, parents=[common], allow_abbrev=False)
        if name in words:
            _module(name).add_arguments(command)
    return parser


def _overview() -> str:
    """The commands by group, as wide as the terminal."""
    width = shutil.get_terminal_size().columns - 2
    margin = " " * 17
    lines = []
    for title, group in GROUPS.items():
        lines += ["", f"{title}:"]
        for name, (_, summary) in group.items():
            lines += textwrap.wrap(
                summary, max(40, width), initial_indent=f"  {name:15}", subsequent_indent=margin, break_on_hyphens=False
            )
    return "\n".join([*lines[1:], "", "flowmap COMMAND --help describes a command."])


def _command(name: str) -> Command:
    command: Command = _module(name).run
    return command


def _module(name: str) -> ModuleType:
    return import_module(f"flowmap.cli.{COMMANDS[name].module}")


def _fail(error: Exception, status: int, arguments: argparse.Namespace) -> int:
    """Print a line for each problem, and with ``--log-level debug`` the traceback."""
    if getattr(arguments, "log_level", None) == "debug":
        import traceback

        traceback.print_exception(error)
    for line in describe(error):
        sys.stderr.write(f"flowmap: {clean(line)}\n")
    return status
