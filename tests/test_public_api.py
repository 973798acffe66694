"""What the package offers by name."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import flowmap

NAMES = sorted(module.name for module in pkgutil.walk_packages(flowmap.__path__, "flowmap."))


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", flowmap.__version__)


@pytest.mark.parametrize("name", ["flowmap", *NAMES])
def test_all_is_sorted_and_true(name: str) -> None:
    if name == "flowmap.__main__":
        return
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if names is not None:
        assert list(names) == sorted(set(names))
        assert [one for one in names if not hasattr(module, one)] == []


def test_the_package_itself_offers_little() -> None:
    assert len(flowmap.__all__) <= 12
