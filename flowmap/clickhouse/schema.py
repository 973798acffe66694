"""The tables in ClickHouse: their versions and the statements that make them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

VERSION = 1
"""The newest version of the tables that this flowmap knows."""

FILES = Path(__file__).parent
"""Where the SQL is."""

ENDS = "ends_1"
NAMES = "deployment_names_1"
HOSTS = "hosts_1"

KEY = "(network, protocol, low, low_port, high, high_port)"
"""What all rows of a connection have in common."""

_PERIOD = (
    "ended >= {since:DateTime64(6, 'UTC')} - toIntervalMinute(10)"
    " AND started - toIntervalMicrosecond(started_within) <= {until:DateTime64(6, 'UTC')} + toIntervalMinute(10)"
)
_IN_PERIOD = (
    "finishes[i] >= toUnixTimestamp64Micro({since:DateTime64(6, 'UTC')})"
    " AND begins[i] - begin_bounds[i] <= toUnixTimestamp64Micro({until:DateTime64(6, 'UTC')})"
)
_OF_DEPLOYMENT = (
    f"{KEY} IN (SELECT network, protocol, low, low_port, high, high_port FROM {ENDS} "
    f"WHERE has(deployments, {{deployment:String}}) AND {_PERIOD})"
)


class Kept(NamedTuple):
    """Days for which rows are kept."""

    ends: int = 15
    """Rows of connections, and the rollup by minute."""
    hours: int = 400
    days: int = 1830

    @property
    def recent(self) -> int:
        """Days for which a minute is computed again if a row of it arrives late."""
        return self.ends - 1


DEFAULT = Kept()


class Statement(NamedTuple):
    """One statement, and the version of the tables that it leads to."""

    version: int
    name: str
    """The table or view that it makes or changes."""
    text: str


def statements(kept: Kept = DEFAULT) -> Iterator[Statement]:
    """All statements in their order. Each can be repeated."""
    values = {
        "{ends_days}": str(kept.ends),
        "{hours_days}": str(kept.hours),
        "{days_days}": str(kept.days),
        "{minutes}": _minutes(kept),
        "{hours}": _filled("sums.sql", fine="minutes", step="minute", coarse="hours", beginning="toStartOfHour"),
        "{days}": _filled("sums.sql", fine="hours", step="hour", coarse="days", beginning="toStartOfDay"),
        "{connections}": _connections(near=_PERIOD, chosen=_IN_PERIOD),
        "{connections_of}": _connections(near=_PERIOD, chosen=_IN_PERIOD, among=_OF_DEPLOYMENT),
    }
    version = 1
    for part in _read("schema.sql").split(";\n"):
        for line in part.splitlines():
            if line.startswith("-- version ") and int(line.split()[2]) > version:
                yield _complete(version)  # so an interrupted upgrade does not repeat it
                version += 1
            elif line == "-- every version":
                version = VERSION
        text = _without_comments(part)
        for place, value in values.items():
            text = text.replace(place, value)
        if text:
            yield Statement(version, _made_by(text), text)
    yield _complete(VERSION)


def names() -> list[list[str]]:
    """The tables and views of the newest version: for each the names that it had in its versions, the newest last."""
    found: dict[str, list[str]] = {}
    for statement in statements():
        verb, name = statement.text.split(maxsplit=1)[0], statement.name
        if verb == "CREATE":
            found.setdefault(name, [name])
        elif verb == "DROP":
            found.pop(name, None)
        elif verb == "RENAME":
            newest = statement.text.split()[-1]
            found[newest] = [*found.pop(name), newest]
    return list(found.values())


def _complete(version: int) -> Statement:
    """What says that the tables have this version."""
    return Statement(version, "schema_versions", f"INSERT INTO schema_versions (version) VALUES ({version})")


def _minutes(kept: Kept) -> str:
    """The query that computes the minutes that changed."""
    among = f"{KEY} IN (SELECT network, protocol, low, low_port, high, high_port FROM of_changed)"
    near = (
        "ended >= (SELECT min(started) FROM of_changed) - toIntervalSecond(1)"
        " AND started - toIntervalMicrosecond(started_within)"
        " <= (SELECT max(minute) FROM changed) + toIntervalSecond(61)"
    )
    chosen = "toStartOfMinute(fromUnixTimestamp64Micro(finishes[i], 'UTC')) IN changed"
    text = _connections(near=near, among=among, chosen=chosen)
    return _filled("minutes.sql", connections=text, recent_days=str(kept.recent))


def _connections(*, near: str, chosen: str, among: str = "1") -> str:
    return _filled("connections.sql", near=near, chosen=chosen, among=among)


def _filled(file: str, **values: str) -> str:
    text = _without_comments(_read(file))
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _without_comments(text: str) -> str:
    lines = (re.sub(r"\s*-- .*", "", line) for line in text.splitlines())
    return "\n".join(line for line in lines if line.strip() not in ("", "--")).strip()


def _made_by(text: str) -> str:
    found = re.search(r"(?:TABLE|VIEW) (?:IF (?:NOT )?EXISTS )?(\w+)", text)
    assert found is not None, text
    return found[1]


def _read(name: str) -> str:
    return (FILES / name).read_text()
