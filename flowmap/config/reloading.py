"""Keys that differ between two configurations, and keys that a reload applies."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from flowmap.config.fields import Live
from flowmap.config.models import Config


def live(key: str) -> str | None:
    """What a new value of ``section.key`` affects after a reload; None if it needs a restart."""
    section: type[BaseModel] = Config
    for name in key.split("."):
        field = section.model_fields[name]
        for mark in field.metadata:
            if isinstance(mark, Live):
                return mark.counts_for
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            section = field.annotation
    return None


def changed(old: Config, new: Config) -> Iterator[str]:
    """Every key with different values."""
    yield from _changed(old, new, "")


def _changed(old: BaseModel, new: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(old).model_fields:
        before, after, key = getattr(old, name), getattr(new, name), f"{prefix}{name}"
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _changed(before, after, f"{key}.")
        elif before != after:
            yield key
