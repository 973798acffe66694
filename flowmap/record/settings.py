"""Which of the configuration a recording keeps: what decides how it replays, and no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from flowmap.assembly import knows_loopback
from flowmap.config import Config
from flowmap.errors import DecodeError

KEPT: Mapping[str, frozenset[str] | None] = {
    "control_plane": frozenset(("endpoint", "workspace", "namespaces", "workspaces", "rate", "burst", "max_in_flight")),
    "collect": None,
    "attribute": None,
    "export": None,
    "http": frozenset(("listen",)),
}
"""Sections, and which of their keys (None: all). What is not named here is never written."""


def kept_settings(config: Config) -> dict[str, Any]:
    """The part of ``config`` that goes into a recording, in the form of the configuration file."""
    wanted = {section: True if keys is None else set(keys) for section, keys in KEPT.items()}
    kept = config.model_dump(mode="json", include=wanted)
    if not knows_loopback(config):  # where else the control plane is decides nothing
        kept["control_plane"]["endpoint"] = None
    return kept


def read_settings(kept: object) -> Config:
    """The configuration of a recording, with defaults for what it does not keep; DecodeError if it is none."""
    try:
        return Config.model_validate(kept)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DecodeError(f"the recording's settings cannot be used: {key}: {first['msg']}") from error
