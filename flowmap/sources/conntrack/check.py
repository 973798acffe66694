"""Kernel settings and limits that conntrack depends on, for ``flowmap check`` and the notes of the source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowmap.errors import DecodeError, SourceError
from flowmap.flows.records.batch import Flag, FlowBatch
from flowmap.sources.base import Finding
from flowmap.sources.conntrack.dump import Dump
from flowmap.sources.netlink_socket import NETLINK_NETFILTER, NetlinkSocket
from flowmap.system import proc
from flowmap.system.proc import Unknown
from flowmap.wire.netlink.conntrack import CtMessage, Group, TableSize, decode_table_size, encode_table_size_request
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from flowmap.wire.netlink.messages import Control, decode_messages, decode_status

if TYPE_CHECKING:
    from flowmap.config.models import ConntrackConfig

SYSCTLS = Path("/proc/sys/net/netfilter")
"""Contents depend on the network namespace of the reading thread."""

FULL = 0.75
"""Fill ratio of the table above which new connections are at risk, as in node_exporter's alert."""

_LIMIT_SYSCTL = "net.netfilter.nf_conntrack_max"


@dataclass(frozen=True, slots=True)
class ConntrackSysctls:
    """Kernel settings and fill of the table; None where unknown."""

    accounting: int | None = None
    events: int | None = None
    entries: int | None = None
    limit: int | None = None
    cause: str = "conntrack is not loaded"
    """Why a value is None."""


@dataclass(frozen=True, slots=True)
class ConntrackProbe:
    """Result of opening the event socket the way the source does."""

    asked: int
    granted: int = 0
    error: SourceError | None = None


@dataclass(slots=True)
class Census:
    """Number of entries of one full read, and of those with unreliable byte counters."""

    entries: int = 0
    uncounted: int = 0
    """Without byte counters."""
    software: int = 0
    """Offloaded to a flowtable in the kernel."""
    hardware: int = 0
    """Offloaded to a flowtable in the network card."""

    def add(self, batch: FlowBatch) -> None:
        """Count the entries of one part of the read."""
        offloaded, hardware = (int(np.count_nonzero(batch.flags & np.uint16(flag))) for flag in _OFFLOADS)
        self.entries += len(batch)
        self.uncounted += len(batch) - int(np.count_nonzero(batch.flags & np.uint16(Flag.COUNTERS)))
        self.software += offloaded - hardware
        self.hardware += hardware

    @property
    def offloaded(self) -> dict[str, int]:
        """Offloaded entries by path (``software``, ``hardware``)."""
        return {"software": self.software, "hardware": self.hardware}


_OFFLOADS = (Flag.OFFLOADED, Flag.HARDWARE)


def read_census() -> Census:
    """Read the whole table once; SourceError if that fails or the read is incomplete."""
    census, dump = Census(), Dump(ColumnDecoder())
    for batch in dump.batches():
        census.add(batch)
    if not dump.complete:
        raise SourceError("the conntrack table changed while it was read")
    return census


def read_settings(directory: Path = SYSCTLS) -> ConntrackSysctls:
    """The current settings of the calling thread's network namespace.

    The fill of the table is read over netlink (needs CAP_NET_ADMIN) if /proc does not have it.
    """
    values = [_read(directory / f"nf_conntrack_{name}") for name in ("acct", "events", "count", "max")]
    missing = [value for value in values if isinstance(value, Unknown)]
    accounting, events, entries, limit = (None if isinstance(value, Unknown) else value for value in values)
    if len(missing) == len(values) and missing[0].absent:
        return ConntrackSysctls()
    if entries is None and not isinstance(size := read_table_size(), Unknown):
        entries, limit = size
    return ConntrackSysctls(accounting, events, entries, limit, missing[0].cause if missing else "")


def read_entries(directory: Path = SYSCTLS) -> int | Unknown:
    """Entries in the table; 0 if conntrack is not loaded."""
    count = _read(directory / "nf_conntrack_count")
    if not isinstance(count, Unknown):
        return count
    if count.absent:
        return 0
    size = read_table_size()
    return Unknown(f"{count.cause}, and {size.cause}") if isinstance(size, Unknown) else size.entries


def _read(path: Path) -> int | Unknown:
    text = proc.read(path)
    if isinstance(text, Unknown):
        return text
    return int(text) if text.strip().isdecimal() else Unknown(f"{path} holds no number")


def read_table_size() -> TableSize | Unknown:
    """Fill and limit of the table, over netlink."""
    try:
        queries = NetlinkSocket(NETLINK_NETFILTER)
    except SourceError as error:
        return Unknown(str(error))
    try:
        queries.send(encode_table_size_request(1))
        for message in decode_messages(queries.receive(wait=1.0).data):
            if message.type == CtMessage.STATISTICS:
                return decode_table_size(message.payload)
            if message.type == Control.ERROR:
                return Unknown(f"conntrack does not answer: {os.strerror(decode_status(message).errno)}")
    except (SourceError, DecodeError) as error:
        return Unknown(str(error))
    finally:
        queries.close()
    return Unknown("conntrack does not answer")


def write_accounting(directory: Path = SYSCTLS) -> None:
    """Enable byte counters of entries created from now on; OSError if not permitted."""
    (directory / "nf_conntrack_acct").write_text("1")


def try_accounting(directory: Path = SYSCTLS) -> None:
    """OSError if :func:`write_accounting` would not be permitted; changes nothing."""
    os.close(os.open(directory / "nf_conntrack_acct", os.O_WRONLY | os.O_CLOEXEC))


def read_probe(receive_buffer: int) -> ConntrackProbe:
    """Open the event socket, join its groups and close it."""
    try:
        opened = NetlinkSocket(NETLINK_NETFILTER, groups=Group, receive_buffer=receive_buffer)
    except SourceError as error:
        return ConntrackProbe(receive_buffer, error=error)
    opened.close()
    return ConntrackProbe(receive_buffer, opened.receive_buffer)


def look(settings: ConntrackConfig) -> list[Finding]:
    """All findings about conntrack on this host: permissions, settings, offloaded connections."""
    probe = read_probe(settings.receive_buffer)
    found = findings(read_settings(), probe, enable_accounting=settings.enable_accounting)
    if probe.error is not None:
        return found
    try:
        return [*found, offload_finding(read_census())]
    except SourceError as error:
        message = f"the number of offloaded connections is unknown: {error}"
        return [*found, Finding("conntrack.offload", "degraded", message, error.remedy or "run check again")]


def findings(settings: ConntrackSysctls, probe: ConntrackProbe, *, enable_accounting: bool = False) -> list[Finding]:
    """One finding for each check, the essential one first."""
    if probe.error is not None:
        return [Finding("conntrack.access", "failed", str(probe.error), probe.error.remedy)]
    return [
        Finding("conntrack.access", "ok", "conntrack events can be read"),
        _accounting(settings, enable_accounting),
        _events(settings),
        _table(settings),
        _buffer(probe.asked, probe.granted),
    ]


def offload_finding(census: Census) -> Finding:
    """Whether byte counters may stand still because packets bypass conntrack."""
    name, many = "conntrack.offload", sum(census.offloaded.values())
    if not many:
        return Finding(name, "ok", f"none of {census.entries} connections is offloaded to a flowtable")
    where = "" if not census.hardware else f", {census.hardware} of them to hardware"
    message = f"{many} of {census.entries} connections are offloaded to a flowtable{where}: {_OFFLOAD_COSTS}"
    return Finding(name, "degraded", message, _OFFLOAD_REMEDY)


_OFFLOAD_COSTS = (
    "their byte counters stand still unless the flowtable has the `counter` flag, so bytes may be missing or late"
)
_OFFLOAD_REMEDY = (
    "see `nft list flowtables` and add `counter` to the flowtable; in hardware the driver must report counters too"
)


def notes(found: list[Finding]) -> dict[str, str]:
    """The findings that are not ok, as notes of a source."""
    return {
        finding.name.partition(".")[2]: f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message
        for finding in found
        if finding.level != "ok"
    }


def _accounting(settings: ConntrackSysctls, enable: bool) -> Finding:
    name = "conntrack.accounting"
    if settings.accounting is None:
        return _unreadable(name, "nf_conntrack_acct", settings)
    if settings.accounting:
        return Finding(name, "ok", "connections have byte counters")
    if enable:
        message = "disabled now, enabled at start; connections older than that never get byte counters"
        return Finding(name, "degraded", message, "sysctl -w net.netfilter.nf_conntrack_acct=1 at boot")
    message = "nf_conntrack_acct is 0: connections are seen without bytes and packets"
    remedy = (
        "sysctl -w net.netfilter.nf_conntrack_acct=1, or set collect.conntrack.enable_accounting; new connections only"
    )
    return Finding(name, "degraded", message, remedy)


_EVENTS_NAME = "conntrack.events"
_EVENTS_REMEDY = "sysctl -w net.netfilter.nf_conntrack_events=1"
_EVENTS: dict[int | None, Finding] = {
    0: Finding(
        _EVENTS_NAME,
        "degraded",
        "nf_conntrack_events is 0: only full reads see changes, and short connections are missed",
        _EVENTS_REMEDY,
    ),
    1: Finding(_EVENTS_NAME, "ok", "the kernel reports every change of a connection"),
    2: Finding(
        _EVENTS_NAME,
        "degraded",
        "nf_conntrack_events is 2: only the next full read notices the end of a connection older than flowmap",
        _EVENTS_REMEDY,
    ),
}


def _events(settings: ConntrackSysctls) -> Finding:
    return _EVENTS.get(settings.events) or _unreadable(_EVENTS_NAME, "nf_conntrack_events", settings)


def _table(settings: ConntrackSysctls) -> Finding:
    name = "conntrack.table"
    entries, limit = settings.entries, settings.limit
    if entries is None:
        return _unreadable(name, "nf_conntrack_count", settings)
    if entries == 0:
        message = (
            "the table is empty: no traffic yet, or no ct rule in this network namespace, so the kernel tracks nothing"
        )
        return Finding(
            name, "degraded", message, "add an nft or iptables rule with a ct match, or set collect.source: sockets"
        )
    if limit is None:
        return _unreadable(name, "nf_conntrack_max", settings)
    message = f"{entries} of {limit} entries in use" if limit else f"{entries} entries in use, without a limit"
    if not limit or entries < FULL * limit:
        return Finding(name, "ok", message)
    return Finding(name, "degraded", f"{message}: a full table drops new connections", f"raise {_LIMIT_SYSCTL}")


def _buffer(asked: int, granted: int) -> Finding:
    name = "conntrack.receive_buffer"
    if granted >= asked:
        return Finding(name, "ok", f"{granted} bytes")
    message = f"{granted} of {asked} bytes granted: bursts of events overrun the buffer sooner"
    return Finding(name, "degraded", message, "grant CAP_NET_ADMIN, or raise net.core.rmem_max")


def _unreadable(name: str, sysctl: str, settings: ConntrackSysctls) -> Finding:
    message = f"net.netfilter.{sysctl} cannot be read: {settings.cause}"
    remedy = "modprobe nf_conntrack" if settings == ConntrackSysctls() else "make /proc/sys visible to flowmap"
    return Finding(name, "degraded", message, remedy)
