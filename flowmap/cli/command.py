"""The ``flowmap`` command: its parser, and what becomes of errors."""

from __future__ import annotations

import argparse
import os
import sys
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
    """A command: its module below ``flowmap.cli``, and one line for the help."""

    module: str
    summary: str


COMMANDS = {
    "demo": Entry(
        "sandbox.demo",
        "everything on this machine: control plane, jobs with real connections, and the daemon that names them",
    ),
    "run": Entry("daemon.run", "the daemon, in the foreground, until SIGTERM"),
    "reload": Entry("daemon.reload", "a running daemon reads its configuration again"),
    "query": Entry("traffic.query", "who owns a connection"),
    "calibrate": Entry(
        "control.calibrate", "how the control plane reads src and dst, told from a connection whose deployment is known"
    ),
    "flows": Entry("traffic.flows", "the connections a running daemon sees, and whose they are"),
    "peers": Entry("traffic.peers", "whom a deployment talked to, and which peers are new or gone"),
    "deployments": Entry(
        "control.deployments", "deployments, by address, by label or all, as the control plane has them"
    ),
    "jobs": Entry("control.jobs", "the jobs of a deployment"),
    "packages": Entry("control.packages", "jobs of the legacy Blink product that use a package"),
    "package-users": Entry("control.package_users", "who uses a jar or Python file, and the peers they talk to"),
    "check": Entry("check.command", "what works here and what does not, before the daemon runs"),
    "replay": Entry("replay.command", "who owned what in a capture file, or in a recording of flowmap run --record"),
    "health": Entry("daemon.health", "whether the daemon of a configuration works, for container health checks"),
    "config": Entry("daemon.config", "the configuration in force, with secrets masked"),
    "sandbox": Entry("sandbox.sandbox", "the embedded control plane alone, on loopback"),
}
"""In the order of the help. Each module has ``add_arguments(parser)`` and ``run(arguments)``."""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Usage errors leave through argparse with status 2."""
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
        # Whoever read stdout is gone; point it elsewhere so that the flush at exit is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except errors.FlowmapError as error:
        return _fail(error, EXIT_FAILURE, arguments)
    except Exception as error:  # the last resort: a user gets a line, not a traceback, whatever went wrong
        return _fail(error, EXIT_FAILURE, arguments)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for a command line. Only the command that is in it is imported and has arguments."""
    common = options.logging_parent()
    parser = argparse.ArgumentParser(
        prog="flowmap", description="Which Flink job is behind this network connection?", parents=[common]
    )
    parser.add_argument("--version", action="version", version=f"flowmap {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, parents=[common], allow_abbrev=False)
        if name in words:
            _module(name).add_arguments(command)
    return parser


def _command(name: str) -> Command:
    command: Command = _module(name).run
    return command


def _module(name: str) -> ModuleType:
    return import_module(f"flowmap.cli.{COMMANDS[name].module}")


def _fail(error: Exception, status: int, arguments: argparse.Namespace) -> int:
    """Say what is wrong, a line for each problem; with ``--log-level debug`` also where it came from."""
    if getattr(arguments, "log_level", None) == "debug":
        import traceback

        traceback.print_exception(error)
    for line in describe(error):
        sys.stderr.write(f"flowmap: {clean(line)}\n")
    return status
