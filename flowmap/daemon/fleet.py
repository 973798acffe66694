"""Makes the member of a fleet from the configuration."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from flowmap.config import Config
from flowmap.config.values import split_valkey
from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.port import ControlPlane
from flowmap.engine.waiting_report import Traffic
from flowmap.errors import ConfigError, FleetError
from flowmap.export.snapshot import FleetReport
from flowmap.fleet.admission import Admission
from flowmap.fleet.control_plane import SharedControlPlane
from flowmap.fleet.member import Member
from flowmap.fleet.naming import new_name
from flowmap.fleet.requests import FleetScope
from flowmap.fleet.server.connection import Server, ServerAddress
from flowmap.fleet.settings import MemberSettings
from flowmap.model.status import FleetStatus
from flowmap.system.hardware import hardware_address


@dataclass(slots=True)
class Fleet:
    """The fleet of a daemon: made before its control plane, which waits for the fleet's budget."""

    config: Config
    host: str = field(init=False)
    """Its name, for the life of the daemon."""
    admission: Admission = field(default_factory=Admission)
    plane: SharedControlPlane | None = None

    def __post_init__(self) -> None:
        self.host = new_name(socket.gethostname(), self.config.http.listen.port, hardware_address())

    def join(self, control: ControlPlane, keys: Callable[[], Awaitable[Credentials]]) -> ControlPlane:
        """``control`` with shared calls. ``keys``: of the account that it calls with."""
        fleet = self.config.fleet
        assert fleet.url is not None

        async def scope() -> FleetScope:
            return FleetScope(control.endpoint, account_of(await keys(), fleet.scope), fleet.scope)

        member = Member(
            control,
            Server(server_address(self.config)),
            settings_of(self.config, self.host),
            scope=scope,
            admission=self.admission,
        )
        self.plane = SharedControlPlane(control, member, label=self.config.control_plane.catalog.label or "")
        return self.plane

    def set_traffic(self, loop: asyncio.AbstractEventLoop) -> Callable[[Traffic], None]:
        """A function that passes reports of the engine's thread to the member in ``loop``."""
        plane = self.plane
        assert plane is not None, "joined"

        def deliver(traffic: Traffic) -> None:
            loop.call_soon_threadsafe(plane.set_traffic, traffic)

        return deliver

    def configure(self, config: Config) -> Callable[[], None]:
        """A function that applies another configuration and cannot fail; ConfigError if a file cannot be used."""
        settings = settings_of(config, self.host)

        def apply() -> None:
            assert self.plane is not None, "joined"
            self.config = config
            self.plane.member.settings = settings
            self.plane.label = config.control_plane.catalog.label or ""

        return apply

    def changed_files(self, config: Config) -> tuple[str, ...]:
        """Files with new contents, for the log; ConfigError if one cannot be used."""
        assert self.plane is not None, "joined"
        same = config.fleet.key_file == self.config.fleet.key_file
        new = same and settings_of(config, self.host).keys != self.plane.member.settings.keys
        return ("contents of fleet.key_file",) if new and config.fleet.trust == self.config.fleet.trust else ()

    def report(self) -> FleetReport:
        """Figures for the page."""
        assert self.plane is not None, "joined"
        figures = self.plane.member.figures
        return FleetReport(
            up=figures.up,
            told=figures.told,
            lost_messages=figures.lost_messages,
            saved=figures.saved,
            local_calls=figures.local_calls,
            waiting=figures.waiting,
            failures=dict(figures.failures),
            refused=dict(figures.refused),
            queued=figures.queued,
            oldest=figures.oldest,
            hosts=figures.hosts,
            missing=figures.missing,
            rate=figures.rate,
        )

    def status(self) -> FleetStatus:
        """State for the status answer."""
        assert self.plane is not None and self.config.fleet.url is not None
        figures = self.plane.member.figures
        return FleetStatus(
            server=self.config.fleet.url,
            up=figures.up,
            hosts=figures.hosts if figures.up else None,
            hosts_missing=figures.missing if figures.up else None,
            questions_queued=figures.queued if figures.up else None,
            oldest_question_seconds=figures.oldest if figures.up else None,
            questions_waiting=figures.waiting,
            calls_saved=figures.saved,
            answers_refused=sum(figures.refused.values()),
            error=figures.problem or (figures.push_problem and f"answers come late: {figures.push_problem}"),
        )


def settings_of(config: Config, host: str) -> MemberSettings:
    """The settings of the member with this name; ConfigError if the key file cannot be used."""
    plane, fleet = config.control_plane, config.fleet
    return MemberSettings(
        host=host,
        trust=fleet.trust,
        size=fleet.size or 1,
        keys=_keys(fleet.key_file) if fleet.trust == "all" else (),
        rate=plane.rate,
        burst=plane.burst,
        max_in_flight=plane.max_in_flight,
        lease=2 * plane.timeout + 10.0,
        recheck=config.attribute.recheck,
        grace=config.attribute.grace,
    )


def server_address(config: Config) -> ServerAddress:
    """Where the server of the configuration is."""
    fleet = config.fleet
    assert fleet.url is not None
    url = split_valkey(fleet.url)
    return ServerAddress(
        url.host,
        url.port,
        url.database,
        url.username,
        fleet.password_file,
        url.tls,
        fleet.tls.ca_file,
        fleet.tls.cert_file,
        fleet.tls.key_file,
    )


def account_of(keys: Credentials, scope: str) -> str:
    """Identity of the account, equal on hosts with the same rights; FleetError if it is not known."""
    if keys.security_token is None:
        return keys.access_key_id
    if not scope:
        raise FleetError(
            f"the keys from {keys.origin} are temporary and differ from host to host; set fleet.scope to a name that "
            "hosts with the same role have in common",
            reason="account",
        )
    return "temporary"


def _keys(path: str | None) -> tuple[bytes, ...]:
    assert path is not None, "checked by the configuration"
    try:
        return tuple(line.encode() for line in Path(path).read_text().split())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"fleet.key_file: {path}: {error}") from error
