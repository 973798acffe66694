"""The documentation of the configuration, made from the models: table, commented file, schema, what is in force."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from flowmap.config.models import Config
from flowmap.config.reloading import live

MASK = "<secret>"
"""Stands for a secret wherever the configuration is shown."""


def masked(config: Config) -> dict[str, Any]:
    """The configuration in force as plain values, in the form of the file, with secrets as ``<secret>``."""
    return {name: _shown(value) for name, value in config.model_dump().items()}


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def masked_yaml(config: Config, *, ascii_only: bool = False) -> str:
    """:func:`masked` as YAML text; ``ascii_only``: other characters as escapes of YAML."""
    return yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=not ascii_only, width=120)


def schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    return Config.model_json_schema()


def _fields(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key in order, a section before its keys."""
    for name, field in model.model_fields.items():
        yield (*prefix, name), field
        section = _section(field)
        if section is not None:
            yield from _fields(section, (*prefix, name))


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _default(key: tuple[str, ...]) -> str:
    """The default as it is written in the file, on one line."""
    value: Any = masked(Config())
    for name in key:
        value = value[name]
    if isinstance(value, str) and value == yaml.safe_load(value or "null"):
        return value
    return json.dumps(value, ensure_ascii=False)


def config_markdown() -> str:
    """The configuration as a Markdown table: key, default, when a reload changes it, meaning."""
    rows = ["| key | default | a reload counts for | meaning |", "|---|---|---|---|"]
    for key, field in _fields(Config):
        if _section(field) is None:
            meaning = (field.description or "").replace("|", r"\|")
            name = ".".join(key)
            rows.append(f"| `{name}` | `{_default(key)}` | {live(name) or 'restart'} | {meaning} |")
    return "\n".join(rows) + "\n"


def example_yaml() -> str:
    """A configuration file with every key at its default, and what each means."""
    lines = ["# Every key of flowmap, at its default. Made by `flowmap config --example`; change a copy of it."]
    for key, field in _fields(Config):
        indent = "  " * (len(key) - 1)
        section = _section(field)
        if section is None:
            lines += [f"{indent}# {field.description}", f"{indent}{key[-1]}: {_default(key)}"]
        else:
            lines += [""] * (len(key) == 1) + [f"{indent}# {section.__doc__}", f"{indent}{key[-1]}:"]
    return "\n".join(lines) + "\n"
