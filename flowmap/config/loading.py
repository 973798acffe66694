"""Loads the configuration: a YAML file, overridden by environment variables.

All problems are reported at once, one line each, with the line of the file or the name of the variable.
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

KEY_LENGTH = 32
"""Shortest key of a fleet, in characters."""

_WANTED = {
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of names, like {name: …}",
    "tuple_type": "must be a list, like [a, b]",
    "string_type": "must be text",
    "string_unicode": "is not UTF-8 text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "missing": "is missing",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
}
"""Messages that replace pydantic's, by its type of error."""
M = TypeVar("M", bound=BaseModel)


class _Problems:
    """The origin of each value of a ``root``, and the problems found."""

    def __init__(self, root: type[BaseModel] = Config) -> None:
        self.root = root
        self.places: dict[Key, str] = {}
        self.lines: list[str] = []

    def add(self, key: Key, message: str) -> None:
        place = next((self.places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.places), "")
        line = ": ".join(part for part in (place, ".".join(map(str, key)), message) if part)
        if line not in self.lines:
            self.lines.append(line)

    def raise_any(self) -> None:
        """ConfigError with every problem so far, if there is one."""
        if self.lines:
            raise ConfigError("\n".join(self.lines))


class LoadedConfig(NamedTuple):
    """A configuration and the origin of its values."""

    config: Config
    places: Mapping[Key, str]
    """``file:line`` or the variable, by key. Absent keys have their default."""

    def place(self, key: str) -> str:
        """Origin of ``section.key``, or of the closest section around it; empty for a default."""
        names = tuple(key.split("."))
        return next((self.places[names[:n]] for n in range(len(names), 0, -1) if names[:n] in self.places), "")


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """Load the file at ``path``, if any, overridden by ``environ``; ConfigError lists all problems."""
    return read(path, environ).config


def read(path: str | None, environ: Mapping[str, str]) -> LoadedConfig:
    """As :func:`load`, with the origin of each value."""
    problems = _Problems()
    tree = _read_file(path, problems) if path is not None else {}
    _override(tree, environ, problems)
    problems.raise_any()
    config = _validated(Config, tree, problems)
    _try_secrets(config, problems)
    _try_web(config, problems)
    _try_fleet(config, problems)
    _try_expectations(config, problems)
    problems.raise_any()
    return LoadedConfig(config, problems.places)


def read_web_config(path: str) -> WebConfig:
    """Load the web configuration file at ``path``; ConfigError lists all problems.

    Relative file names in it become relative to its folder.
    """
    web = read_model(path, WebConfig)
    tls = web.tls_server_config
    if tls is None:
        return web
    names = ("cert_file", "key_file", "client_ca_file")
    whole = {name: str(Path(path).parent / value) for name in names if (value := getattr(tls, name)) is not None}
    return web.model_copy(update={"tls_server_config": tls.model_copy(update=whole)})


def read_model(path: str, model: type[M]) -> M:
    """Load another file than the configuration; ConfigError lists all problems with their lines."""
    problems = _Problems(model)
    tree = _read_file(path, problems)
    problems.places.setdefault((), path)  # of an empty file
    problems.raise_any()
    return _validated(model, tree, problems)


def _validated(model: type[M], tree: dict[str, Any], problems: _Problems) -> M:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            problems.add(*_explain(problems.root, item["loc"], item["type"], item["msg"], item["input"]))
        problems.raise_any()
        raise


def require_control_plane(config: Config) -> None:
    """ConfigError if no control plane is configured: without one no flow can get an owner.

    Access keys are not required here. Without them the credential chain finds a key.
    """
    plane, missing = config.control_plane, []
    if config.flink.enabled and not plane.enabled:
        return
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
        example = next(iter(problems.root.model_fields))
        raise ConfigError(f"{path}:1: must be a mapping of sections, like {example}: {{…}}")
    _fill_empty_sections(tree, problems.root)
    return tree


def _fill_empty_sections(tree: dict[str, Any], annotation: Any) -> None:
    """Replace null by an empty section: ``section:`` with only comments below it is valid."""
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
            variable.encode()  # bytes that are not UTF-8 have become lone surrogates
        except UnicodeEncodeError:
            problems.add(key, "unknown key")
            continue
        try:
            text = os.fsencode(environ[variable]).decode()  # UTF-8 in every locale, like the file
        except UnicodeError:
            problems.add(key, "is not UTF-8 text")
            continue
        try:
            value = _read_variable(key, text)
        except ValueError:
            problems.add(key, 'not JSON: write lists and maps as JSON, like ["a", "b"]')
            continue
        _put(tree, key, value)


def _put(tree: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for name in key[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):  # wrong in the file already; validation reports it
            return
    tree[key[-1]] = value


def _forget_places(problems: _Problems, key: Key) -> None:
    for place in [place for place in problems.places if place[: len(key)] == key]:
        del problems.places[place]


def _read_variable(key: tuple[str, ...], text: str) -> Any:
    """Parse JSON for a list or a map. Other text stays, the models parse it: also where a key takes a list or text."""
    annotation = _annotation(Config, key)
    if text == "null":
        return None
    is_text = str in get_args(annotation) and not text.startswith("[")
    return json.loads(text) if _is_container(annotation) and not is_text else text


def _annotation(root: type[BaseModel], key: Key) -> Any:
    """Type of the field at ``key``; None for an unknown key."""
    model: Any = root
    for name in key:
        fields = _keys(model)
        if name not in fields:
            return None
        model = fields[str(name)].annotation
    return model


def _keys(annotation: Any) -> dict[str, FieldInfo]:
    """Fields of a section or an optional section, by their names in the file."""
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
    """Key and message for an error of pydantic. ``value`` is not shown: it may be a secret."""
    if key and key[-1] == "[key]":  # the key of a map is wrong, not its value
        key = key[:-1]
    if kind == "extra_forbidden":
        known = list(_keys(_annotation(root, key[:-1])))
        close = difflib.get_close_matches(str(key[-1]), known, n=1, cutoff=0.5)
        return key, f"unknown key (did you mean {close[0]}?)" if close else "unknown key"
    if kind == "string_type" and (problem := text_problem(value)):
        return key, problem
    if kind in _WANTED:
        return key, _WANTED[kind]
    for start in ("Value error, ", "Input ", "String ", "Tuple ", "Dictionary "):
        message = message.removeprefix(start)
    return key, message


def _try_secrets(config: Config, problems: _Problems) -> None:
    """Report files of secrets that are missing or empty.

    The signer reads the secrets later, and again after a refusal, because the file may have been replaced.
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


def _try_fleet(config: Config, problems: _Problems) -> None:
    """Report files of the fleet that are missing or too short, and a fleet without calls to share."""
    fleet = config.fleet
    if fleet.url is None:
        return
    if not config.control_plane.enabled:
        problems.add(("fleet", "url"), "there is nothing to share: control_plane is not set, and Flink costs no calls")
    for name, least in (("password_file", 1), ("key_file", KEY_LENGTH)):
        path = getattr(fleet, name)
        if path is None:
            continue
        try:
            lines = read_text(path).split()
            problem = "" if lines and min(map(len, lines)) >= least else f"{path}: is shorter than {least} characters"
        except ConfigError as error:
            problem = str(error)
        if problem:
            problems.add(("fleet", name), problem)


def _try_expectations(config: Config, problems: _Problems) -> None:
    """Report problems of the file of expectations."""
    from flowmap.config.expectations import read_expectations

    try:
        read_expectations(config.expect.file)
    except ConfigError as error:
        for line in str(error).splitlines():
            problems.add(("expect", "file"), line)


def _try_web(config: Config, problems: _Problems) -> None:
    """Report problems of the web configuration file, also missing protection of the listening address."""
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
