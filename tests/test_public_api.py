"""What the distribution offers to other code: its version and its types. Everything else is internal."""

from __future__ import annotations

import re
from importlib import metadata, resources

import flowmap


def test_the_package_offers_its_version_only() -> None:
    assert flowmap.__all__ == ["__version__"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", flowmap.__version__)
    assert metadata.version("flowmap") == flowmap.__version__


def test_the_package_is_marked_as_typed() -> None:
    assert resources.files("flowmap").joinpath("py.typed").is_file()
