"""Names of Kubernetes containers by id, from the links to their logs that kubelet keeps.

``/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log``: the names of files are enough, and every user may list them.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path("/var/log/containers")
LIMIT = 16_384
"""Files that are read."""

_FILE = re.compile(r"(?P<pod>[a-z0-9.-]+)_(?P<namespace>[a-z0-9-]+)_(?P<name>[a-z0-9-]+)-(?P<id>[0-9a-f]{64})\.log")


class ContainerName(NamedTuple):
    """How Kubernetes calls a container."""

    name: str
    pod: str
    """``namespace/name``."""


class ContainerNames:
    """The names of the containers on this node; empty elsewhere."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._changed_at = -1
        self._names: dict[str, ContainerName] = {}
        self.dropped = 0
        """Files beyond the limit, which were not read."""

    def refresh(self) -> bool:
        """Read the directory if it has changed; whether it has."""
        try:
            changed_at = self._directory.stat().st_mtime_ns
            if changed_at == self._changed_at:
                return False
            with os.scandir(self._directory) as entries:
                found = [_FILE.fullmatch(entry.name) for entry in islice(entries, LIMIT)]
                self.dropped += sum(1 for _ in entries)
        except OSError:
            return False
        self._changed_at = changed_at
        self._names = {
            match["id"]: ContainerName(match["name"], f"{match['namespace']}/{match['pod']}")
            for match in found
            if match
        }
        return True

    def get(self, container: str) -> ContainerName | None:
        """The name of a container, as of the last :meth:`refresh`."""
        return self._names.get(container)
