"""Makes what sends the history to ClickHouse from the configuration."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from flowmap.clickhouse.bodies import LOOPBACK_AND_LINK, Origin
from flowmap.clickhouse.reader import StoreReader
from flowmap.clickhouse.sender import LOG_EVERY, SETTLING, Sender, Unwritten
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.config import Config
from flowmap.export.peers import Peers
from flowmap.export.snapshot import Snapshot, StoreReport
from flowmap.history.spool import Spool
from flowmap.history.writer import HistoryWriter
from flowmap.model.status import StoreStatus
from flowmap.query.fleet import FleetQueries
from flowmap.query.history import HistoryQueries
from flowmap.sources.kinds import KINDS

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Store:
    """The store of a daemon, and the thread that sends to it."""

    url: str
    sender: Sender
    _silent: bool = False
    _logged_at: float = float("-inf")

    def report(self) -> StoreReport:
        """Figures for the page."""
        figures = self.sender.figures
        return StoreReport(
            up=figures.up and figures.silence() is None,
            sent=figures.sent,
            batches=figures.batches,
            waiting=figures.waiting,
            oldest=figures.oldest,
            complete_until=figures.complete_until,
            lost=dict(figures.lost),
            failures=dict(figures.failures),
        )

    def status(self) -> StoreStatus:
        """State for the status answer."""
        figures, silence = self.sender.figures, self.sender.figures.silence()
        return StoreStatus(
            server=self.url,
            up=figures.up and silence is None,
            flows_sent=figures.sent,
            flows_waiting=figures.waiting,
            flows_lost=sum(figures.lost.values()),
            oldest_waiting_at=figures.oldest,
            complete_until=figures.complete_until,
            error=silence or figures.problem,
        )

    def check(self, now: float) -> None:
        """Log that the server does not answer an exchange that is under way, and that it does again."""
        silence = self.sender.figures.silence()
        if silence is not None and not self._silent and now - self._logged_at >= LOG_EVERY:
            self._silent, self._logged_at = True, now
            log.warning("clickhouse: flows wait in the history: %s", silence)
        elif silence is None and self._silent:  # the sender logs why an exchange failed
            self._silent = False
            if self.sender.figures.up:
                log.info("clickhouse: the server answers again")


def make_store(
    config: Config, names: Peers, *, source: str, unwritten: Callable[[], Unwritten] = Unwritten
) -> Store | None:
    """The store of the configuration; None without one.

    ``names``: of service endpoints; ``source``: of the flows; ``unwritten``: flows that are not in the history file.
    """
    settings, path = config.history.clickhouse, config.history.path
    if settings.url is None or path is None:
        return None
    sender = Sender(Spool(path), server_of(config), origin_of(config, names), source=source, unwritten=unwritten)
    return Store(settings.url, sender)


def unwritten_of(snapshot: Snapshot, writer: HistoryWriter) -> Unwritten:
    """The flows that ended and are not in the history file. ``snapshot``: the latest one, read before the writer."""
    since = [end for end in (snapshot.unwritten_since, writer.first_end()) if end is not None]
    if snapshot.taken_at:  # else the engine has not seen a flow yet
        since.append(snapshot.taken_at - SETTLING)
    return Unwritten(min(since, default=None), sum(writer.figures.lost.values()))


def server_of(config: Config) -> Server:
    """The server of ``history.clickhouse``. Its url is set."""
    settings = config.history.clickhouse
    assert settings.url is not None, "checked by the caller"
    return Server(
        ServerAddress(
            settings.url,
            settings.database,
            settings.user,
            settings.password_file,
            settings.tls.ca_file,
            settings.tls.cert_file,
            settings.tls.key_file,
        )
    )


def reader_of(config: Config) -> StoreReader:
    """What reads the server of ``history.clickhouse``. Its url is set."""
    return StoreReader(server_of(config), translated_ends=config.attribute.nat == "translated")


def fleet_queries(config: Config, local: HistoryQueries) -> FleetQueries:
    """Answers about the past of all hosts; ``local``: about connections that the store does not have."""
    limit = config.attribute.owners_limit
    return FleetQueries(reader_of(config), owners_limit=limit, describe=local.describe, local=local)


def host_of(config: Config) -> str:
    """The name of this host in the rows."""
    return config.history.clickhouse.host or socket.gethostname()


def origin_of(config: Config, names: Peers) -> Origin:
    """What all rows of this host have in common."""
    settings = config.history.clickhouse
    return Origin(
        host_of(config),
        settings.network,
        {kind.facts.name: kind.facts.counts for kind in KINDS.values()},
        tuple(ipaddress.ip_network(text) for text in (*LOOPBACK_AND_LINK, *settings.local_networks)),
        (lambda service: names.named(service) or "") if config.export.peers else None,
        config.attribute.nat == "translated",
    )
