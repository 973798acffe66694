"""Which cgroups count: patterns of ``collect.sockets.cgroups``. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


class Selection:
    """Include and exclude patterns of paths. A pattern matches a cgroup and all below it; ``*`` is part of a name."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [_parts(pattern) for pattern in include]
        self._exclude = [_parts(pattern) for pattern in exclude]

    def leaves_out(self, path: str | None) -> bool:
        """Whether sockets in the cgroup do not count. One that is not known counts."""
        if path is None:
            return False
        parts = _parts(path)
        if self._include and not any(_matches(pattern, parts) for pattern in self._include):
            return True
        return any(_matches(pattern, parts) for pattern in self._exclude)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _matches(pattern: list[str], parts: list[str]) -> bool:
    return len(parts) >= len(pattern) and all(map(fnmatchcase, parts, pattern))
