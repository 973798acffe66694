"""What flowmap relies on in uvicorn: public names only, in a range of versions that has an end."""

from __future__ import annotations

import ast
import asyncio
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from flowmap.serve.server import protocol, server

ROOT = Path(__file__).parents[3]

OVERRIDDEN = {
    H11Protocol: {
        "connection_made": ["self", "transport"],
        "data_received": ["self", "data"],
        "eof_received": ["self"],
        "connection_lost": ["self", "exc"],
        "on_response_complete": ["self"],
        "timeout_keep_alive_handler": ["self"],
        "shutdown": ["self"],
        "send_400_response": ["self", "msg"],
    },
    uvicorn.Server: {"startup": ["self", "sockets"], "capture_signals": ["self"]},
}

METHODS = [(owner, name, names) for owner, methods in OVERRIDDEN.items() for name, names in methods.items()]


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS)
def test_overridden_methods(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


async def _app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("never called")


def _new() -> H11Protocol:
    config = uvicorn.Config(_app, lifespan="off", log_config=None)
    config.load()

    async def make() -> H11Protocol:
        return H11Protocol(config, ServerState(), {})

    return asyncio.run(make())


@pytest.mark.parametrize(
    "name", ["app", "conn", "cycle", "flow", "loop", "scheme", "transport", "timeout_keep_alive_task"]
)
def test_attributes_of_a_connection(name: str) -> None:
    assert hasattr(_new(), name)


@pytest.mark.parametrize("name", ["lifespan", "server_state", "should_exit", "started"])
def test_attributes_of_a_server(name: str) -> None:
    made = uvicorn.Server(uvicorn.Config(_app, lifespan="off", log_config=None))
    made.config.load()
    made.lifespan = made.config.lifespan_class(made.config)
    assert hasattr(made, name)


def _private(module: ModuleType) -> Iterator[str]:
    """Names with one underscore that a module reads or writes on ``self``, or on anything else."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield node.attr


def test_private_names_are_our_own() -> None:
    known = set(dir(_new())) | set(dir(uvicorn.Server)) | set(dir(uvicorn.Config))
    assert (set(_private(protocol)) | set(_private(server))) & known == set()


def test_the_range_of_versions_has_an_end() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (declared,) = [one for one in dependencies if one.startswith("uvicorn")]
    low, high = declared.removeprefix("uvicorn").split(",")
    assert low.startswith(">=") and high.startswith("<")
