"""The YAML loader: a file as plain values, with the line of every value.

JSON is YAML. Only plain data can be loaded, no objects of Python.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

import yaml

from flowmap.errors import ConfigError

LARGEST_FILE = 1 << 20
"""Bytes of a configuration file or secret file."""
LARGEST_TREE = 10_000_000
"""Values of a file, each alias counted as often as it is used."""
PIPE_TIMEOUT = 5.0
"""Seconds to wait for data in a pipe (``-c <(…)``). A reload must finish even if the file has become a pipe."""

Key = tuple[str | int, ...]
"""The way from the root of a document to a value: names of keys, positions in lists."""

_NOT_TEXT = {int: "a number", float: "a number", bool: "true or false", date: "a date", datetime: "a date"}
"""Types that YAML gives to unquoted text."""


class YamlFile(NamedTuple):
    """The content of a file."""

    value: Any
    """Mappings (with keys as text), lists and scalars; None for an empty file."""
    lines: Mapping[Key, int]
    """Line of each value; of a value in a mapping, the line of its key."""
    repeated: tuple[Key, ...]
    """Keys that a mapping has more than once. The last one counts."""

    def line(self, key: Key) -> int | None:
        """Line of ``key``, or of the closest value around it."""
        return next((self.lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.lines), None)


def read_yaml(path: str, *, largest: int = LARGEST_FILE) -> YamlFile:
    """Read the YAML file at ``path``; ConfigError with the line if it is not YAML."""
    text = read_text(path, largest=largest)
    try:
        # The C loader is ten times as fast. PyYAML may have been built without it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        reader = _Reader(loader, path)
        node = loader.get_single_node()
        value = None if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else path
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    return YamlFile(value, reader.lines, tuple(reader.repeated))


def text_problem(value: object) -> str | None:
    """What to do about a ``value`` that YAML did not read as text; None if it is a mapping or a list."""
    kind = _NOT_TEXT.get(type(value))
    return None if kind is None else f"this is {kind} in YAML, not text; quote it"


def read_text(path: str, *, largest: int = LARGEST_FILE) -> str:
    """The text of a file; ConfigError if it cannot be read, is not UTF-8, or has more than ``largest`` bytes."""
    try:
        data = _read_bytes(path, largest + 1)
        if len(data) > largest:
            raise ConfigError(f"{path}: larger than {largest >> 20} MiB; this is not the file you mean")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def _read_bytes(path: str, most: int) -> bytes:
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        readable = select.poll()
        readable.register(file, select.POLLIN)
        deadline = time.monotonic() + PIPE_TIMEOUT
        data = bytearray()
        while len(data) < most:
            if not readable.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ConfigError(f"{path}: no data in this pipe for {PIPE_TIMEOUT:.0f} s")
            part = file.read(most - len(data))
            if part == b"":
                break
            data += part or b""
        return bytes(data)


class _Reader:
    """Turns YAML nodes into values and notes their lines."""

    def __init__(self, loader: yaml.SafeLoader, path: str) -> None:
        self._loader, self._path = loader, path
        self._open: set[int] = set()
        self._merged: set[int] = set()
        self.lines: dict[Key, int] = {}
        self.repeated: list[Key] = []

    def read(self, node: yaml.Node, key: Key) -> Any:
        self.lines[key] = node.start_mark.line + 1
        if len(self.lines) > LARGEST_TREE:
            raise ConfigError(f"{self._path}: more than {LARGEST_TREE:,} values; are there aliases of aliases?")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise ConfigError(f"{self._path}:{node.start_mark.line + 1}: an alias that contains itself")
        self._open.add(id(node))
        value = self._mapping(node, key) if isinstance(node, yaml.MappingNode) else self._sequence(node, key)
        self._open.discard(id(node))
        return value

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # 2026-13-45 looks like a date and is none
            place = f"{self._path}:{node.start_mark.line + 1}"
            raise ConfigError(f"{place}: {node.value}: {error}; quote it if it is text") from error

    def _sequence(self, node: yaml.Node, key: Key) -> list[Any]:
        return [self.read(item, (*key, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        if id(node) not in self._merged:
            names = [_name(name) for name, _ in node.value]
            self.repeated += [(*key, name) for name in dict.fromkeys(names) if names.count(name) > 1]
            self._loader.flatten_mapping(node)  # "<<: *alias"; own keys come last and so win
            self._merged.add(id(node))
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name = _name(name_node)
            values[name] = self.read(value_node, (*key, name))
            self.lines[(*key, name)] = name_node.start_mark.line + 1
        return values


def _name(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else "?"
