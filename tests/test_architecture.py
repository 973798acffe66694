"""The house rules that a machine can check: which room may import which, who owns a library, how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flowmap"

DOMAIN = {"errors", "flows"}
ENGINE = DOMAIN | {"attribute", "books", "collect", "config", "export", "operations"}

ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "flows": {"errors"},
    "wire": DOMAIN,
    "attribute": DOMAIN | {"config"},  # its settings are declared there
    "export": DOMAIN | {"attribute"},
    "history": DOMAIN | {"attribute"},  # it keeps what the books let go of, and is handed columns
    "control": {"errors", "system"},
    "config": DOMAIN | {"control"},  # the languages of endpoints and of patterns have one parser each
    "collect": DOMAIN | {"wire", "config", "system", "workers"},
    "serve": DOMAIN | {"attribute", "config", "export", "request_target", "system", "workers"},
    "request_target": set(),
    "workers": {"errors", "system"},
    "logs": set(),
    "system": {"errors"},
    # What stands between the rooms: the books and their one writer, queries, the calls, the wiring, the daemon's life.
    "operations": DOMAIN | {"attribute", "collect", "config"},
    "books": ENGINE,
    "explain": ENGINE,
    "query": ENGINE | {"explain", "window"},
    "window": ENGINE,
    "past": ENGINE | {"engine", "history", "query", "window"},
    "engine": ENGINE,
    "asker": ENGINE | {"control", "engine"},
    "backend": ENGINE | {"control", "engine", "past", "query", "serve"},
    "catalog": ENGINE | {"control", "engine"},
    "offline": ENGINE,
    "assembly": ENGINE,
    "record": ENGINE | {"assembly", "offline", "query", "wire"},
    "captured": ENGINE | {"asker", "assembly", "offline", "query", "sandbox", "wire"},
    "pipeline": ENGINE
    | {
        "asker",
        "assembly",
        "backend",
        "catalog",
        "control",
        "engine",
        "history",
        "logs",
        "past",
        "query",
        "record",
        "serve",
        "workers",
    },
    "reload": ENGINE | {"assembly", "control", "logs", "pipeline"},
    "complaints": {"collect"},
    "watch": {"collect", "complaints", "pipeline", "system"},
    "textfile": {"errors"},
    "daemon": {"collect", "config", "errors", "logs", "pipeline", "record", "reload", "system", "textfile", "watch"}
    | {"workers"},
    "sandbox": DOMAIN | {"control", "request_target"},
    "cli": ENGINE
    | {"asker", "control", "daemon", "offline", "pipeline", "query", "record", "sandbox", "serve", "system"}
    | {"assembly", "captured", "history", "textfile"},
    "__main__": {"cli"},
}
"""The rooms each room may import, besides itself. A module directly in the package is a room of its own."""

OWNERS: dict[str, tuple[str, ...]] = {
    "bcrypt": ("serve.passwords",),
    "cachetools": ("attribute",),
    "h11": ("serve.protocol",),
    "httpx": ("control.transport", "cli.client"),
    "numpy": (
        "flows",
        "wire",
        "collect",
        "attribute",
        "export",
        "history",
        "books",
        "explain",
        "query",
        "window",
        "engine",
        "record",
    ),
    "prometheus_client": ("export.selfmetrics",),
    "pydantic": ("cli.check_host", "config", "control", "record", "serve", "sandbox"),
    "pydantic_core": ("control",),
    "scapy": ("collect", "wire"),
    "starlette": ("request_target", "serve", "sandbox"),
    "uvicorn": ("serve.protocol", "serve.server", "sandbox.control_plane"),
    "yaml": ("config", "sandbox"),
}
"""Where each third-party package may be imported."""

LAZY = ("bcrypt", "scapy")
"""Imported in functions only: too dear for those who do not need it."""

PURE = ("flows", "wire", "attribute", "export", "operations", "books", "offline", "explain", "query", "window")
IMPURE_MODULES = frozenset(
    (
        *("asyncio", "datetime", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select"),
        *("selectors", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib"),
    )
)
"""What rooms that take ``now`` and bytes have no use for."""

MODULE_LINES = 400
FUNCTION_LINES = 60


class Import(NamedTuple):
    """One imported name, as a dotted path."""

    name: str
    line: int
    lazy: bool


class Module(NamedTuple):
    """A module of the package."""

    name: str
    """Without ``flowmap.``; empty for the package itself."""
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[Import]:
        """Everything imported, wherever in the module."""
        at_top = {id(node) for node in _outside_functions(self.tree)}
        for node in ast.walk(self.tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}:{node.lineno}: write imports in full"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                yield Import(name, getattr(node, "lineno", 0), id(node) not in at_top)

    def is_in(self, places: tuple[str, ...]) -> bool:
        return any(self.name == place or self.name.startswith(f"{place}.") for place in places)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _outside_functions(child)


def _load(file: Path) -> Module:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    text = file.read_text()
    return Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), text, ast.parse(text))


MODULES = [_load(file) for file in sorted(PACKAGE.rglob("*.py"))]
BY_NAME = {module.name: module for module in MODULES}


def own_target(name: str) -> str | None:
    """The module of ours that ``name`` refers to, without ``flowmap.``; None for others and for the version."""
    if name.partition(".")[0] != "flowmap":
        return None
    inside = name.partition(".")[2]
    while inside and inside not in BY_NAME:
        inside = inside.rpartition(".")[0]
    return inside or None


def named(module: Module) -> str:
    return module.name or "flowmap"


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_rooms_import_only_what_they_may(module: Module) -> None:
    for imported in module.imports():
        target = own_target(imported.name)
        room = (target or "").partition(".")[0]
        allowed = ARROWS[module.room] | {module.room} if module.name else set()
        assert target is None or room in allowed, f"{module.name}:{imported.line} imports {imported.name}"


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_libraries_stay_with_their_owners(module: Module) -> None:
    for imported in module.imports():
        package = imported.name.partition(".")[0]
        if package == "flowmap" or package in sys.stdlib_module_names:
            continue
        where = f"{module.name}:{imported.line} imports {imported.name}"
        assert package in OWNERS, where
        assert module.is_in(OWNERS[package]), where
        assert imported.lazy or package not in LAZY, f"{where} outside a function"


def test_nothing_but_history_opens_its_file() -> None:
    users = {module.room for module in MODULES if any(item.name.startswith("sqlite3") for item in module.imports())}
    assert users == {"history"}


@pytest.mark.parametrize("module", [module for module in MODULES if module.room in PURE], ids=named)
def test_pure_rooms_have_no_clock_socket_or_log(module: Module) -> None:
    for imported in module.imports():
        assert imported.name.partition(".")[0] not in IMPURE_MODULES, f"{module.name}:{imported.line} {imported.name}"


def test_the_daemon_does_not_reach_the_sandbox() -> None:
    reached, waiting = set(), ["daemon"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for part in range(name.count(".") + 1):  # importing a.b.c runs a and a.b too
            waiting.append(".".join(name.split(".")[: part + 1]))
        if name in BY_NAME:
            waiting += [target for item in BY_NAME[name].imports() if (target := own_target(item.name))]
    assert "pipeline" in reached
    assert not [name for name in reached if name.startswith("sandbox")]


def test_the_daemon_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys, flowmap.daemon; print([n for n in ('scapy', 'flowmap.sandbox', 'hypothesis') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_sizes(module: Module) -> None:
    assert len(module.text.splitlines()) <= MODULE_LINES
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{module.name}.{node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_every_module_says_what_it_is(module: Module) -> None:
    assert ast.get_docstring(module.tree) or not module.text.strip()


def test_tables_have_no_dead_rows() -> None:
    rooms = {module.room for module in MODULES if module.name}
    assert ARROWS.keys() == rooms
    used = {imported.name.partition(".")[0] for module in MODULES for imported in module.imports()}
    assert not OWNERS.keys() - used


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower().replace("-", "_") for line in project["dependencies"]}
    imported = {imported.name.partition(".")[0] for module in MODULES for imported in module.imports()}
    libraries = {name for name in imported if name in OWNERS} - {
        "h11",
        "pydantic_core",
    }  # come with uvicorn and pydantic
    assert declared == {"pyyaml" if name == "yaml" else name for name in libraries}
