"""Check of ``export.peers``: host names that resolve, files that can be read, and endpoints with two names."""

from __future__ import annotations

from collections.abc import Iterator

from flowmap.config import Config
from flowmap.daemon.peer_watch import PeerWatch
from flowmap.model.peer_entry import EntryKind, read_entry
from flowmap.sources.base import Finding
from flowmap.system.names import run_loop

NAME = "export.peers"


def look(config: Config) -> Iterator[Finding]:
    """A finding for each problem; never failed, as endpoints without a name are ``ip:port``."""
    texts = {text for texts in config.export.peers.values() for text in texts}
    if all(read_entry(text).kind is EntryKind.PATTERN for text in texts):
        return
    watch = PeerWatch(config)
    with run_loop() as runner:
        runner.run(watch.look())
    patterns = sum(map(len, watch.config.export.peers.values()))
    yield Finding(NAME, "ok", f"{len(config.export.peers)} peers with {patterns} addresses and networks")
    for text, problem in watch.problems.items():
        cost = f"{text}: {problem}: its endpoints have no name until it works"
        yield Finding(NAME, "degraded", cost, "correct it, or write down the addresses")
    for one in watch.naming.conflicts:
        message = f"{one.endpoint} is named {one.counts} and {one.other}: {one.counts} counts"
        yield Finding(NAME, "degraded", message, "take it out of one of them")
    if watch.naming.left_out:
        message = f"{watch.naming.left_out} addresses of host names and files are too many and have no name"
        yield Finding(NAME, "degraded", message, "write down networks instead")
