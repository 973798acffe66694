"""The part of the configuration in a recording: everything that affects the replay, and no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from pydantic import ValidationError

from flowmap.config import Config
from flowmap.engine.factory import knows_loopback
from flowmap.errors import DecodeError

KEPT: Mapping[str, frozenset[str] | None] = {
    "control_plane": frozenset(("endpoint", "workspace", "namespaces", "workspaces", "rate", "burst", "max_in_flight")),
    "flink": frozenset(("clusters", "kubernetes")),
    "collect": None,
    "attribute": None,
    "export": None,
    "http": frozenset(("listen",)),
}
"""Recorded keys by section (None: all keys). Others are never written."""


def kept_settings(config: Config) -> dict[str, Any]:
    """The recorded part of ``config``, in the form of the configuration file."""
    wanted = {section: True if keys is None else set(keys) for section, keys in KEPT.items()}
    kept = config.model_dump(mode="json", include=wanted)
    if not knows_loopback(config):  # only loopback endpoints affect the replay
        kept["control_plane"]["endpoint"] = None
    return kept


class RecordedSettings(NamedTuple):
    """The configuration of a recording, with defaults for missing keys."""

    config: Config
    unknown: tuple[str, ...] = ()
    """Ignored keys that this flowmap does not know; the version that wrote them may decide differently."""


def read_settings(kept: object) -> RecordedSettings:
    """The settings of a recording; DecodeError if they cannot be used."""
    try:
        return RecordedSettings(Config.model_validate(kept))
    except ValidationError as error:
        problems = error.errors(include_input=False)
    for problem in problems:
        if problem["type"] != "extra_forbidden":
            raise DecodeError(f"the settings of the recording cannot be used: {_said(problem['loc'], problem['msg'])}")
    known: Any = deepcopy(kept)
    for problem in problems:
        *sections, key = problem["loc"]
        place = known
        for name in sections:
            place = place[name]
        del place[key]
    return RecordedSettings(Config.model_validate(known), tuple(_key(problem["loc"]) for problem in problems))


def first_problem(error: ValidationError) -> str:
    """Key and message of the first error, on one line."""
    problem = error.errors(include_input=False)[0]
    return _said(problem["loc"], problem["msg"])


def _said(location: tuple[int | str, ...], message: str) -> str:
    return f"{_key(location)}: {message}".splitlines()[0]


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)
