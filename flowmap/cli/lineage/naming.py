"""Names of datasets by the naming rules of OpenLineage, as far as a connection shows them.

flowmap sees servers, not topics or tables. So the namespace of a dataset is that of its system (``mysql://host:port``),
and its name is the peer's: it stands for everything on that server.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_BY_PORT = {
    1433: "mssql",
    1521: "oracle",
    2881: "oceanbase",
    3306: "mysql",
    5432: "postgres",
    8020: "hdfs",
    9042: "cassandra",
    9092: "kafka",
    9093: "kafka",
    9094: "kafka",
}
_BY_WORD = {
    "cassandra": "cassandra",
    "hdfs": "hdfs",
    "kafka": "kafka",
    "mariadb": "mysql",
    "mssql": "mssql",
    "mysql": "mysql",
    "oceanbase": "oceanbase",
    "oracle": "oracle",
    "postgres": "postgres",
    "postgresql": "postgres",
    "sqlserver": "mssql",
    "trino": "trino",
}
"""Systems with a rule, by a word in the name of the peer."""


class Dataset(NamedTuple):
    """A dataset as OpenLineage identifies it."""

    namespace: str
    name: str


def dataset(edge: dict[str, Any]) -> Dataset:
    """The dataset of a peer. If its name and port do not identify the system, the namespace is ``host:port`` alone."""
    peer: str = edge["peer"]
    authority = edge["endpoints"][0] if edge["endpoints"] else peer
    system = _system(peer, authority)
    return Dataset(f"{system}://{authority}" if system else authority, peer)


def _system(peer: str, authority: str) -> str | None:
    """The name counts before the port: a server may listen on any port."""
    for word in re.split(r"[^a-z]+", peer.lower()):
        if word in _BY_WORD:
            return _BY_WORD[word]
    _, colon, port = authority.rpartition(":")
    return _BY_PORT.get(int(port)) if colon and port.isdecimal() else None
