"""Reading the configuration: a YAML file, the environment over it, secrets from their files.

All problems are reported at once, one line each, with the line of the file or the name of the variable at fault.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from flowmap.config.models import Config
from flowmap.config.web import WebConfig
from flowmap.config.yaml_file import Key, read_text, read_yaml, text_problem
from flowmap.errors import ConfigError

PREFIX = "FLOWMAP__"
"""Variables of the environment that override a key: FLOWMAP__SECTION__KEY."""

_WANTED = {
    "model_type": "a mapping of keys is wanted here",
    "dict_type": "a mapping of names is wanted here, like {name: …}",
    "tuple_type": "a list is wanted here, like [a, b]",
    "string_type": "text is wanted here",
    "string_unicode": "is not UTF-8 text",
}
"""What pydantic tells in the words of Python, by its name for the problem."""
M = TypeVar("M", bound=BaseModel)


class _Problems:
    """Where each value of a ``root`` came from, and what is wrong with it."""

    def __init__(self, root: type[BaseModel] = Config) -> None:
        self.root = root
        self.places: dict[Key, str] = {}
        self.lines: list[str] = []

    def add(self, key: Key, message: str) -> None:
        place = next((self.places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.places), "")
        line = ": ".join(part for part in (place, ".".join(map(str, key)), message) if part)
        if line not in self.lines:
            self.lines.append(line)

    def settle(self) -> None:
        """ConfigError with every problem so far, if there is one."""
        if self.lines:
            raise ConfigError("\n".join(self.lines))


class LoadedConfig(NamedTuple):
    """A configuration, and where it was read."""

    config: Config
    places: Mapping[Key, str]
    """``file:line`` or the variable of what was given, by key; what is not there is at its default."""

    def place(self, key: str) -> str:
        """Where ``section.key`` or the closest thing around it was given; empty if nowhere."""
        names = tuple(key.split("."))
        return next((self.places[names[:n]] for n in range(len(names), 0, -1) if names[:n] in self.places), "")


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """The configuration of the file at ``path``, if any, and of ``environ`` over it; ConfigError lists all problems."""
    return read(path, environ).config


def read(path: str | None, environ: Mapping[str, str]) -> LoadedConfig:
    """As :func:`load`, with the places."""
    problems = _Problems()
    tree = _read_file(path, problems) if path is not None else {}
    _override(tree, environ, problems)
    problems.settle()
    config = _validated(Config, tree, problems)
    _try_secrets(config, problems)
    _try_web(config, problems)
    problems.settle()
    return LoadedConfig(config, problems.places)


def read_web_config(path: str) -> WebConfig:
    """The web configuration file at ``path``, its file names made whole; ConfigError lists all problems."""
    problems = _Problems(WebConfig)
    tree = _read_file(path, problems)
    problems.settle()
    web = _validated(WebConfig, tree, problems)
    tls = web.tls_server_config
    if tls is None:
        return web
    names = ("cert_file", "key_file", "client_ca_file")
    whole = {name: str(Path(path).parent / value) for name in names if (value := getattr(tls, name)) is not None}
    return web.model_copy(update={"tls_server_config": tls.model_copy(update=whole)})


def _validated(model: type[M], tree: dict[str, Any], problems: _Problems) -> M:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            problems.add(*_explain(problems.root, item["loc"], item["type"], item["msg"], item["input"]))
        problems.settle()
        raise


def require_control_plane(config: Config) -> None:
    """ConfigError if nobody could be asked for owners: a daemon that can name nothing is a misconfiguration.

    Keys need not be in the configuration: without them the credentials chain looks elsewhere.
    """
    plane, missing = config.control_plane, []
    if plane.region is None and plane.endpoint is None:
        missing.append(
            "control_plane.region: not set; give the region of your workspace, like cn-hangzhou (or endpoint)"
        )
    if plane.workspace is None:
        missing.append("control_plane.workspace: not set; give the id of your workspace, like a14bd5d90a")
    if missing:
        raise ConfigError("\n".join(missing))


def _read_file(path: str, problems: _Problems) -> dict[str, Any]:
    file = read_yaml(path)
    problems.places |= {key: f"{path}:{line}" for key, line in file.lines.items()}
    for key in file.repeated:
        problems.add(key, "given twice")
    tree = {} if file.value is None else file.value
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}:1: a mapping of sections is wanted, like control_plane: {{…}}")
    _fill_empty_sections(tree, problems.root)
    return tree


def _fill_empty_sections(tree: dict[str, Any], annotation: Any) -> None:
    """``section:`` with nothing but comments below it is an empty section, not null."""
    for name, field in _keys(annotation).items():
        if name in tree and tree[name] is None and _is_section(field.annotation):
            tree[name] = {}
        elif isinstance(tree.get(name), dict):
            _fill_empty_sections(tree[name], field.annotation)


def _override(tree: dict[str, Any], environ: Mapping[str, str], problems: _Problems) -> None:
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        key = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        _forget_places(problems, key)
        for length in range(1, len(key) + 1):
            problems.places.setdefault(key[:length], variable)
        try:
            variable.encode()  # bytes that are not UTF-8 are lone surrogates by now
        except UnicodeEncodeError:
            problems.add(key, "unknown key")
            continue
        try:
            text = os.fsencode(environ[variable]).decode()  # UTF-8 whatever the locale, as the file
        except UnicodeError:
            problems.add(key, "is not UTF-8 text")
            continue
        try:
            value = _read_variable(key, text)
        except ValueError:
            problems.add(key, 'lists and maps are given as JSON, like ["a", "b"]')
            continue
        _put(tree, key, value)


def _put(tree: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for name in key[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):  # wrong in the file already; the models will say so
            return
    tree[key[-1]] = value


def _forget_places(problems: _Problems, key: Key) -> None:
    for place in [place for place in problems.places if place[: len(key)] == key]:
        del problems.places[place]


def _read_variable(key: tuple[str, ...], text: str) -> Any:
    """Text stays text (the models parse it), unless the key holds a list or a map."""
    annotation = _annotation(Config, key)
    if text == "null":
        return None
    return json.loads(text) if _is_container(annotation) else text


def _annotation(root: type[BaseModel], key: Key) -> Any:
    """Type of the field at ``key``; None if there is no such field."""
    model: Any = root
    for name in key:
        fields = _keys(model)
        if name not in fields:
            return None
        model = fields[str(name)].annotation
    return model


def _keys(annotation: Any) -> dict[str, FieldInfo]:
    """The fields of a section, also of one that may be null, by the names they have in the file."""
    for part in (annotation, *get_args(annotation)):
        if _is_section(part):
            return {field.alias or name: field for name, field in part.model_fields.items()}
    return {}


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_container(annotation: Any) -> bool:
    parts = (annotation, *get_args(annotation))
    return any(get_origin(part) in (tuple, dict) or _is_section(part) for part in parts)


def _explain(root: type[BaseModel], key: Key, kind: str, message: str, value: object) -> tuple[Key, str]:
    """A problem found by pydantic in the words of the configuration. ``value`` is not shown: it may be a secret."""
    if key and key[-1] == "[key]":  # of a map: its name is wrong, not its value
        key = key[:-1]
    if kind == "extra_forbidden":
        known = list(_keys(_annotation(root, key[:-1])))
        close = difflib.get_close_matches(str(key[-1]), known, n=1, cutoff=0.5)
        return key, f"unknown key (did you mean {close[0]}?)" if close else "unknown key"
    if kind == "string_type" and (problem := text_problem(value)):
        return key, problem
    if kind in _WANTED:
        return key, _WANTED[kind]
    for start in ("Value error, ", "Input ", "Tuple ", "Dictionary "):
        message = message.removeprefix(start)
    return key, message


def _try_secrets(config: Config, problems: _Problems) -> None:
    """Whether the files of secrets are there and hold something.

    Whoever signs reads them, and reads them again when the key was refused: it may have been replaced.
    """
    credentials = config.control_plane.credentials
    for name in ("access_key_secret_file", "security_token_file"):
        path = getattr(credentials, name)
        if path is None:
            continue
        try:
            problem = "" if read_text(path).strip() else f"{path}: is empty"
        except ConfigError as error:
            problem = str(error)
        if problem:
            problems.add(("control_plane", "credentials", name), problem)


def _try_web(config: Config, problems: _Problems) -> None:
    """Whether the web configuration file can be read, and guards what it must."""
    if config.http.web_config is None:
        return
    try:
        web = read_web_config(config.http.web_config)
        config.http.check_guard(web.tls_server_config is not None, web.basic_auth_users)
    except ConfigError as error:
        for line in str(error).splitlines():
            problems.add(("http", "web_config"), line)
    except ValueError as error:
        problems.add(("http", "web_config"), str(error))
