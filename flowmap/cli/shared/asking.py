"""Calls to the control plane from a command: configuration, call rate, error texts and incomplete answers."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

from flowmap.attribute.calls.budget import CallBudget
from flowmap.cli.output.progress import Progress
from flowmap.cli.output.text import clean
from flowmap.config import Config, ControlPlaneConfig, load, require_control_plane
from flowmap.control.alibaba.api.blink import BlinkClient
from flowmap.control.alibaba.api.envelope import Element
from flowmap.control.alibaba.api.listing import Listing
from flowmap.control.alibaba.api.requests import segment
from flowmap.daemon.clients import control_transport, credentials_provider
from flowmap.errors import BadRequest, ConfigError, QueryError
from flowmap.system.names import run_loop

T = TypeVar("T")

WORDS = {
    "src_ip": "--src-ip",
    "src_port": "--src-port",
    "dst_ip": "--dst-ip",
    "dst_port": "--dst-port",
    "namespace": "--namespace",
    "execution_mode": "--execution-mode",
    "name": "--name",
    "status": "--status",
    "creator": "--creator",
    "key": "KEY",
    "deployment_id": "DEPLOYMENT_ID",
    "project": "PROJECT",
    "package": "PACKAGE",
}
"""Option or argument of the command for each parameter of the API's operations."""

_WORD = re.compile(rf"\b({'|'.join(WORDS)})\b(?=:| or|;)")

LINES = 20
"""Losses printed one by one; more are counted."""

EXIT_WHOLE = 0
EXIT_PARTIAL = 1
"""The answer is incomplete. stderr has the reason."""


def configured(arguments: argparse.Namespace) -> Config:
    """Load the configuration; ConfigError if it has no control plane."""
    config = load(arguments.config, os.environ)
    require_control_plane(config)
    return config


def namespaces(arguments: argparse.Namespace, config: Config) -> tuple[str, ...]:
    """The given namespaces, or all configured ones; BadRequest for an invalid name."""
    return checked(tuple(dict.fromkeys(arguments.namespace or config.control_plane.namespaces)))


def checked(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of namespaces, unchanged; BadRequest for an invalid one."""
    for namespace in names:
        segment("namespace", namespace)
    return names


def run(question: Coroutine[object, object, T]) -> T:
    """Run a coroutine; QueryError for a wrong parameter, ControlError from the control plane."""
    try:
        with run_loop() as runner:
            return runner.run(question)
    except BadRequest as error:
        raise QueryError(in_words(str(error))) from error


def in_words(message: str) -> str:
    """``message`` with the options of the command instead of the API's parameters. Quoted values stay."""
    text, quote, rest = message.partition("'")
    return _WORD.sub(lambda match: WORDS[match[1]], text) + quote + rest


def blink_client(settings: ControlPlaneConfig) -> BlinkClient:
    """A client of the legacy API; ConfigError if it is not enabled."""
    if not settings.blink.enabled or settings.region is None:
        raise ConfigError(
            "control_plane.blink.enabled: the legacy API is not enabled; set it to true and set control_plane.region"
        )
    transport = control_transport(settings)
    return BlinkClient(
        region=settings.region,
        credentials=credentials_provider(settings, transport),
        endpoint=settings.blink.endpoint,
        timeout=settings.timeout,
        transport=transport,
    )


class Pace:
    """Limits the calls of one command to the configured rate. Belongs to one event loop."""

    def __init__(self, settings: ControlPlaneConfig) -> None:
        self._budget = CallBudget(rate=settings.rate, burst=settings.burst, max_in_flight=settings.max_in_flight)
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._unused = 0
        self.at_once = settings.max_in_flight
        """Calls that may be in flight at one time."""

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Wait until a call is allowed. The call is made inside the context."""
        async with self._slots:
            await self._token()
            yield

    async def pages(self, listing: Listing[Element]) -> AsyncIterator[tuple[Element, ...]]:
        """Read the pages of a listing, one call each."""
        pages = aiter(listing)
        while True:
            async with self.call():
                page = await anext(pages, None)
            if page is None:
                self._unused += 1  # the listing was complete, so no call was made
                return
            yield page

    async def _token(self) -> None:
        if self._unused:
            self._unused -= 1
            return
        while not self._budget.available(now := time.monotonic()):
            await asyncio.sleep(max(0.001, self._budget.next_at(now) - now))
        self._budget.start(now)
        self._budget.finish()  # the semaphore limits calls in flight


async def read_all(pace: Pace, listing: Listing[Element], progress: Progress, what: str) -> tuple[Element, ...]:
    """Read every element of a listing."""
    found: list[Element] = []
    async for page in pace.pages(listing):
        found += page
        progress.show(f"{len(found)} of {listing.total} {what}")
    return tuple(found)


class Losses:
    """What an answer lacks. Reported on stderr and in the exit status."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._hints: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, line: str) -> None:
        """Record a loss that ``line`` describes."""
        self._count += 1
        if self._count <= LINES:
            self._lines.append(line)

    def hint(self, line: str) -> None:
        """Record a line that is printed but is not a loss."""
        self._hints.append(line)

    def of_listing(self, listing: Listing[Element], what: str) -> None:
        """Record the losses of a listing that was read."""
        if listing.dropped:
            self.add(f"{what}: {listing.dropped} could not be read and are missing")
        if not listing.complete:
            self.add(f"{what}: the list changed while it was read; some may be missing")

    def report(self) -> int:
        """Print the losses and hints; returns the exit status."""
        more = [f"and {self._count - LINES} more"] if self._count > LINES else []
        for line in (*self._lines, *more, *self._hints):
            sys.stderr.write(f"flowmap: {clean(line)}\n")
        return EXIT_PARTIAL if self else EXIT_WHOLE
