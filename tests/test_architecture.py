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

ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "logs": set(),
    "system": {"errors"},
    "model": set(),
    "flows": {"errors", "model"},
    "wire": {"errors", "flows", "model"},
    "opener": {"errors", "system"},
    "control": {"errors", "model", "system"},
    "attribute": {"config", "flows", "model"},  # its settings are declared in the configuration
    "config": {"control", "errors", "flows", "model"},  # endpoints and patterns have one parser each
    "export": {"errors", "flows", "model"},
    "history": {"attribute", "errors", "flows", "model"},
    "sources": {"config", "errors", "flows", "model", "opener", "system", "wire"},
    "engine": {"attribute", "config", "control", "errors", "export", "flows", "model", "sources"},
    "query": {"attribute", "control", "engine", "errors", "export", "flows", "history", "model", "sources"},
    "serve": {"config", "errors", "export", "model", "system"},
    "recording": {"attribute", "config", "engine", "errors", "export", "flows", "model", "sources", "wire"},
    "fleet": {"control", "errors", "model"},
    "clickhouse": {"attribute", "control", "errors", "flows", "history", "model"},
    "catalog_file": {"config", "control", "errors"},
    "replay": {
        *("attribute", "catalog_file", "config", "engine", "errors", "export", "flows", "model"),
        *("query", "recording", "sources", "wire"),
    },
    "daemon": {
        *("attribute", "clickhouse", "config", "control", "engine", "errors", "export", "fleet", "history", "logs"),
        *("model", "opener", "query", "recording", "serve", "sources", "system"),
    },
    "sandbox": {"catalog_file", "control", "errors", "model", "serve"},
    "cli": {
        *(
            "attribute",
            "catalog_file",
            "clickhouse",
            "config",
            "control",
            "daemon",
            "engine",
            "errors",
            "export",
            "fleet",
            "flows",
        ),
        *("history", "model", "query", "recording", "replay", "sandbox", "serve", "sources", "system"),
    },
    "__main__": {"cli"},
}
"""The rooms each room may import, besides itself. A module directly in the package is a room of its own."""

IMPLEMENTATIONS: dict[str, tuple[str, ...]] = {
    "control.alibaba": (
        *("control.alibaba", "daemon.clients", "daemon.fleet", "sandbox", "cli.control", "cli.check"),
        *("cli.shared.asking", "cli.shared.direct", "cli.replay.capture"),  # questions of commands, in the API's values
        "catalog_file.catalog",  # artifacts in the API's spelling
        "cli.shared.flink",  # listings in the values of the API
    ),
    "control.flink": (
        *("control.flink", "daemon.flink_clients", "cli.check.flink", "cli.control.flink_packages", "cli.shared.flink"),
    ),
}
"""Who may import an implementation of the port to a control plane. Everything else knows ``control.port`` only."""

OWNERS: dict[str, tuple[str, ...]] = {
    "bcrypt": ("serve.server.passwords",),
    "cachetools": ("attribute",),
    "h11": ("serve.server.protocol",),
    "httpx": ("control.http.transport", "cli.shared.client", "clickhouse.server"),
    "numpy": (
        *("flows", "wire", "sources", "attribute", "export", "history", "engine", "query", "recording", "replay"),
        "clickhouse",
    ),
    "prometheus_client": ("export.selfmetrics",),
    "pydantic": ("catalog_file", "cli.check.host", "config", "control", "fleet", "recording", "serve", "sandbox"),
    "pydantic_core": ("control",),
    "redis": ("fleet.server.connection",),
    "rich": ("cli.output.progress",),
    "scapy": ("sources", "wire"),
    "starlette": ("request_target", "serve", "sandbox"),
    "uvicorn": ("serve.server.protocol", "serve.server.server", "sandbox.control_plane"),
    "yaml": ("config",),
    "zstandard": ("clickhouse.compression",),
}
"""Where each third-party package may be imported."""

LAZY = ("bcrypt", "redis", "rich", "scapy", "zstandard")
"""Imported in functions only, or for types: too expensive for those who do not need it."""

PURE = (
    *("model", "flows", "wire", "attribute", "export", "catalog_file.matching", "engine.accounting", "engine.commands"),
    *("query.live", "query.explain", "query.matching", "query.traffic", "query.windows", "replay.driver"),
)
IMPURE_MODULES = frozenset(
    (
        *("asyncio", "datetime", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select"),
        *("selectors", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib"),
    )
)
"""What rooms that take ``now`` and bytes have no use for."""

ELSEWHERE: dict[str, str] = {
    # Declarations, and shells around the kernel, a process or a terminal: tests of the whole cover them.
    "attribute.lines": "attribute/test_continuity.py",
    "clickhouse.filters": "clickhouse/test_reader.py",
    "clickhouse.stored_rows": "clickhouse/test_reader.py",
    "cli.opener.command": "kernel/test_namespaces.py",
    "cli.check.clickhouse": "clickhouse/test_initialising.py",
    "cli.fleet.flows": "clickhouse/test_commands.py",
    "cli.fleet.init": "clickhouse/test_initialising.py",
    "cli.fleet.peers": "clickhouse/test_commands.py",
    "cli.fleet.query": "clickhouse/test_commands.py",
    "cli.fleet.store": "clickhouse/test_commands.py",
    "clickhouse.bodies": "clickhouse/test_sender.py",
    "clickhouse.native": "clickhouse/test_sender.py",
    "daemon.lifecycle": "kernel/test_life.py",
    "daemon.opener": "kernel/test_namespaces.py",
    "engine.peer_names": "engine/test_accounting.py",
    "engine.commands": "engine/test_accounting.py",
    "flows.namespaces.reads": "flows/namespaces/test_numbering.py",
    "fleet.admission": "fleet/server/test_connection.py",
    "fleet.calling": "fleet/test_waiting.py",
    "fleet.calls": "fleet/server/test_connection.py",
    "fleet.control_plane": "fleet/test_member.py",
    "fleet.server.exchange": "fleet/server/test_connection.py",
    "fleet.figures": "fleet/server/test_connection.py",
    "fleet.trust": "fleet/test_member.py",
    "logs": "logs/test_handler.py",
    "opener.entering": "kernel/test_namespaces.py",
    "query.map.folding": "query/map/test_building.py",
    "query.map.grouping": "query/map/test_building.py",
    "query.past": "query/test_history.py",
    "sandbox.demo.flink": "sandbox/demo/test_demo.py",
    "sources.capture.ring": "kernel/test_capture.py",
    "sources.capture.source": "kernel/test_capture.py",
    "sources.namespaces.making": "kernel/test_namespaces.py",
    "sources.namespaces.passed": "kernel/test_namespaces.py",
    "sources.namespaces.source": "kernel/test_namespaces.py",
    "sources.sockets.source": "kernel/test_sockets.py",
}
"""Modules without a test file of their own, each with the one that covers it."""

SCENARIOS: dict[str, str] = {
    "cli/control/test_proxy.py": "every command behind a proxy",
    "cli/shared/test_silent_names.py": "every command without name servers",
    "cli/test_imports.py": "what each command imports",
    "cli/test_streams.py": "every command in every locale",
    "clickhouse/test_commands.py": "flowmap fleet query, peers and flows, over the engine",
    "clickhouse/test_daemon_reads.py": "a daemon that answers from the store",
    "clickhouse/test_dashboard.py": "the dashboard of config/grafana for ClickHouse",
    "clickhouse/test_documents.py": "the questions of clickhouse/README.md",
    "control/alibaba/test_oracle.py": "the vendor's SDK as oracle",
    "serve/api/test_fuzz.py": "any request",
    "serve/api/test_stale.py": "one endpoint, from parameters to JSON",
    "serve/api/test_lineage.py": "one endpoint, from parameters to JSON",
    "serve/api/test_strings.py": "any name in every kind of answer",
    "serve/server/test_uvicorn.py": "what is relied on in uvicorn",
    "system/test_unit.py": "the systemd unit",
}
"""Tests in the folders of rooms that belong to no module, each with its subject."""

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
        for_types = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        if not for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
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
def test_only_the_port_to_a_control_plane_is_known(module: Module) -> None:
    for imported in module.imports():
        for implementation, users in IMPLEMENTATIONS.items():
            if f"{own_target(imported.name)}.".startswith(f"{implementation}."):
                assert module.is_in(users), f"{module.name}:{imported.line} imports {imported.name}"


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


@pytest.mark.parametrize("module", [module for module in MODULES if module.is_in(PURE)], ids=named)
def test_pure_rooms_have_no_clock_socket_or_log(module: Module) -> None:
    for imported in module.imports():
        assert imported.name.partition(".")[0] not in IMPURE_MODULES, f"{module.name}:{imported.line} {imported.name}"


def test_the_daemon_does_not_reach_the_sandbox() -> None:
    reached, waiting = set(), ["daemon.lifecycle"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for part in range(name.count(".") + 1):  # importing a.b.c runs a and a.b too
            waiting.append(".".join(name.split(".")[: part + 1]))
        if name in BY_NAME:
            waiting += [target for item in BY_NAME[name].imports() if (target := own_target(item.name))]
    assert "daemon.wiring" in reached
    assert not [name for name in reached if name.startswith("sandbox")]


def test_the_daemon_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys, flowmap.daemon.lifecycle; "
        "print([n for n in ('scapy', 'flowmap.sandbox', 'hypothesis') if n in sys.modules])"
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
    libraries = {name for name in imported if name in OWNERS}
    libraries -= {"h11", "pydantic_core"}  # come with uvicorn and pydantic
    libraries -= {"redis", "zstandard"}  # extras
    assert declared == {"pyyaml" if name == "yaml" else name for name in libraries}


def _has_logic(module: Module) -> bool:
    """Whether a function of the module does something; declarations and protocols do not."""
    functions = (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    inert = (ast.Constant, ast.Pass)
    return any(not isinstance(getattr(part, "value", part), inert) for node in functions for part in node.body)


def _test_of(name: str) -> Path:
    *folders, last = name.split(".")
    return Path(*folders, f"test_{last}.py")


@pytest.mark.parametrize("module", [module for module in MODULES if _has_logic(module)], ids=named)
def test_every_module_with_logic_has_a_test_file(module: Module) -> None:
    file = ROOT / "tests" / ELSEWHERE.get(module.name, str(_test_of(module.name)))
    assert file.exists(), f"add {file.relative_to(ROOT)}, or a row in ELSEWHERE"


def test_every_test_file_has_a_module() -> None:
    """``test_NAME.py`` and ``test_NAME_TOPIC.py`` lie where ``NAME.py`` lies in the package."""
    rooms = {module.room for module in MODULES}
    strays = []
    for file in (ROOT / "tests").glob("*/**/test_*.py"):
        path = file.relative_to(ROOT / "tests")
        words = path.stem.removeprefix("test_").split("_")
        names = (".".join((*path.parts[:-1], "_".join(words[:end]))) for end in range(1, len(words) + 1))
        if path.parts[0] in rooms and not any(name in BY_NAME for name in names):
            strays.append(str(path))
    assert sorted(strays) == sorted(SCENARIOS)


def test_tests_elsewhere_are_still_elsewhere() -> None:
    tests = ROOT / "tests"
    assert not [name for name in ELSEWHERE if name not in BY_NAME or (tests / _test_of(name)).exists()]
    assert not [path for path in SCENARIOS if not (tests / path).exists()]


def test_tests_import_no_private_names() -> None:
    """ruff's SLF001 has the other half: no private attribute of an object is read."""
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("flowmap"):
                private = [alias.name for alias in node.names if alias.name[0] == "_" and alias.name[:2] != "__"]
                assert not private, f"{file.relative_to(ROOT)}:{node.lineno} imports {private}"
