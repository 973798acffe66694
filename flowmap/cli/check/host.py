"""Checks of the host: permissions of files, capabilities of the process, the listen address."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr

from flowmap.config import Config
from flowmap.errors import SourceError
from flowmap.serve.server.server import listen
from flowmap.sources.base import Finding, Level
from flowmap.sources.kinds import KINDS, PREFERRED
from flowmap.system import proc
from flowmap.system.privileges import held

GRANT = "run as root, or grant it: AmbientCapabilities= in the unit, --cap-add for a container"

SECRET_FILES = {
    "access_key_secret_file": ("control_plane", "credentials", "access_key_secret_file"),
    "security_token_file": ("control_plane", "credentials", "security_token_file"),
    "tls.key_file": ("http", "tls", "key_file"),
    "web_config": ("http", "web_config"),
}
"""Files with secrets, which other users must not read: name in findings, and path of the key."""


def look(path: str | None, config: Config) -> Iterator[Finding]:
    """All findings about the host that do not belong to a source."""
    yield from files(path, config)
    yield from capabilities(config)
    yield from hidden()
    yield listening(config)


def files(path: str | None, config: Config) -> Iterator[Finding]:
    """Modes of the configuration file and of the files with secrets."""
    if path is not None:
        yield mode_of("files.config", path, secret=_holds_secret(config))
    for name, key in SECRET_FILES.items():
        value: object = config
        for part in key:
            value = getattr(value, part, None)
        if isinstance(value, str):
            yield mode_of(f"files.{name}", value, secret=True)


def mode_of(name: str, path: str, *, secret: bool) -> Finding:
    """The mode of a file, of the target if it is a link."""
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        return Finding(name, "failed", f"{path}: {error.strerror}", "name an existing file")
    if mode & stat.S_IWOTH:
        return Finding(name, "degraded", f"{path}: every user may change it", f"chmod o-w {path}")
    if secret and mode & stat.S_IROTH:
        remedy = f"chmod o-rwx {path}" + ("" if name != "files.config" else ", or keep secrets in separate files")
        return Finding(name, "degraded", f"{path}: every user may read the secrets in it", remedy)
    return Finding(name, "ok", f"{path}: mode {mode:04o}")


def _holds_secret(model: BaseModel) -> bool:
    values = [getattr(model, name) for name in type(model).model_fields]
    nested = [item for value in values if isinstance(value, dict) for item in value.values()]
    return any(
        isinstance(value, SecretStr) or (isinstance(value, BaseModel) and _holds_secret(value))
        for value in (*values, *nested)
    )


def capabilities(config: Config) -> Iterator[Finding]:
    """Capabilities of the configured source; ``auto`` works without them."""
    source = config.collect.source
    kind = PREFERRED if source == "auto" else KINDS[source]
    wanted = kind.capabilities
    missing = ", ".join(f"CAP_{capability.name}" for capability in sorted(wanted - held()))
    if missing:
        level: Level = "degraded" if source == "auto" else "failed"
        yield Finding("host.capabilities", level, f"{missing} is missing: {kind.without}", GRANT)
    else:
        names = ", ".join(f"CAP_{capability.name}" for capability in sorted(wanted)) or "none"
        yield Finding("host.capabilities", "ok", f"all required capabilities ({names}); the daemon drops the others")


def hidden() -> Iterator[Finding]:
    """Parts of /proc that cannot be read, for all sources."""
    lines = list(proc.unreadable())
    if lines:
        yield Finding(
            "host.proc", "degraded", "; ".join(lines), "mount /proc, and do not set ProcSubset=pid in the unit"
        )


def listening(config: Config) -> Finding:
    """Whether the daemon can listen on its address: opens the socket and closes it."""
    where = str(config.http.listen)
    try:
        listen(*config.http.listen).close()
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            return _taken(where, config)
        return Finding("http.listen", "failed", str(error), error.remedy)
    return Finding("http.listen", "ok", f"{where} is free")


def _taken(where: str, config: Config) -> Finding:
    """The address is in use: fine by a running flowmap, a failure by another program."""
    owner = _owner(config.http.listen.port)
    if isinstance(owner, proc.Unknown):
        message = f"{where} is in use by an unknown process ({owner.cause}); unless it is flowmap, "
        return Finding("http.listen", "degraded", f"{message}the daemon cannot start", "run ss -tlnp as root")
    if owner == "flowmap":
        return Finding("http.listen", "ok", f"{where} is in use by a running flowmap")
    remedy = "choose another http.listen, or stop that process"
    if owner:
        return Finding("http.listen", "failed", f"{where} is in use by {owner}", remedy)
    message = f"{where} is in use by a process that only root can see; unless it is flowmap, the daemon cannot start"
    return Finding("http.listen", "degraded", message, remedy)


def _owner(port: int) -> str | proc.Unknown:
    """The name of the program that listens on a port; empty if only root can see it."""
    tables = [proc.read(Path(f"/proc/self/net/{table}")) for table in ("tcp", "tcp6")]
    if isinstance(tables[0], proc.Unknown):
        return tables[0]
    inodes = set()
    for table in tables:
        for line in [] if isinstance(table, proc.Unknown) else table.splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:  # TCP_LISTEN, net/tcp_states.h
                inodes.add(f"socket:[{words[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().split(b"\0")
                names = [os.path.basename(word).decode(errors="backslashreplace") for word in command if word]
                return "flowmap" if "flowmap" in names and "run" in names else names[0] if names else ""
        except OSError:
            continue
    return ""
