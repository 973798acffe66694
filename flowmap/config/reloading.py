"""Which keys change while the daemon runs, and from when on the new value counts. All others need a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from flowmap.config.models import Config

AT_ONCE = "everything"
NEXT_CALL = "the next call"
NEXT_READ = "the next full read"
NEXT_ANSWER = "the next answer"
NEW_FLOWS = "flows that begin"
NEW_NAMES = "flows named from then on"

LIVE: Mapping[str, str] = {
    "control_plane.credentials": NEXT_CALL,
    "control_plane.rate": AT_ONCE,
    "control_plane.burst": AT_ONCE,
    "control_plane.max_in_flight": AT_ONCE,
    "control_plane.timeout": NEXT_CALL,
    "control_plane.proxy_url": NEXT_CALL,
    "control_plane.proxy_from_environment": NEXT_CALL,
    "control_plane.tls": NEXT_CALL,
    "control_plane.catalog": "the next listing",
    "control_plane.blink": "commands only",
    "collect.include": NEW_FLOWS,
    "collect.exclude": NEW_FLOWS,
    "collect.conntrack.resync": NEXT_READ,
    "collect.sockets.interval": NEXT_READ,
    "attribute.confirm": NEXT_ANSWER,
    "attribute.grace": NEXT_ANSWER,
    "attribute.owners_limit": NEXT_ANSWER,
    "attribute.positive_ttl": NEXT_ANSWER,
    "attribute.negative_ttl": NEXT_ANSWER,
    "attribute.stale_for": AT_ONCE,
    "attribute.give_up_after": AT_ONCE,
    "export.peers": NEW_NAMES,
    "export.deployment_labels": AT_ONCE,
    "export.idle_after": AT_ONCE,
    "log": AT_ONCE,
}
"""By key, or by section for all keys in it."""


def live(key: str) -> str | None:
    """From when on a new value of ``section.key`` counts; None if it needs a restart."""
    names = key.split(".")
    return next((LIVE[".".join(names[:n])] for n in range(len(names), 0, -1) if ".".join(names[:n]) in LIVE), None)


def changed(old: Config, new: Config) -> Iterator[str]:
    """Every key whose value differs."""
    yield from _changed(old, new, "")


def _changed(old: BaseModel, new: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(old).model_fields:
        before, after, key = getattr(old, name), getattr(new, name), f"{prefix}{name}"
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _changed(before, after, f"{key}.")
        elif before != after:
            yield key
