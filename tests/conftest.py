"""For every test: no keys or settings from the environment, and no request to a metadata service.

Tests with the marker ``browser`` run only if ``-m`` names it: they take half a minute of CPU. What is done here about
bytecode and garbage saves four minutes.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

for _name in [name for name in os.environ if name.startswith(("ALIBABA_CLOUD_", "FLOWMAP_"))]:
    del os.environ[_name]
os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"

# Tests start flowmap hundreds of times; each process would compile it, and each of pytest's all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine may take any time for one example: no test has a limit of time.
settings.register_profile("flowmap", deadline=None)
settings.load_profile("flowmap")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep all that collection makes out of every later search for garbage: it lives until the end.

    To look at these million objects takes half a second of CPU, each time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Free the flow tables of a replay, arrays for a million flows, after its test.

    They are in reference cycles, which Python finds late: a process of tests grew to 7 GB.
    """
    if "replay" in item.path.parts:
        gc.collect()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests, and skip those that are steps of their own in ``.ci/run``.

    Tests on a real kernel come first. They mostly wait, so one of three workers has them, while the others use the
    processors; where they came last, nobody did.
    """
    items.sort(key=lambda item: item.get_closest_marker("kernel") is None)
    if "browser" in config.option.markexpr:
        return
    own_step = pytest.mark.skip(reason="a step of its own in .ci/run: python -m pytest -m browser")
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(own_step)
