"""The files of the page: served whole, compressed, once."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from flowmap.serve import ui
from flowmap.serve.ui.assets import TYPES, assets
from tests.support.http_api import ask

FOLDER = Path(ui.__file__).parent
FILES = sorted(file for file in FOLDER.iterdir() if file.suffix[1:] in TYPES)
FIRST_VIEW = 100_000
"""Bytes of everything that the first view loads, compressed, without its data."""
LINES = 2000
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_is_served(file: Path) -> None:
    path = "/" if file.name == "index.html" else f"/ui/{file.name}"
    plain, packed = ask(path), ask(path, headers={"accept-encoding": "gzip"})
    assert plain.content == packed.content == file.read_bytes()
    assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
    assert plain.headers["content-type"] == TYPES[file.suffix[1:]]
    policy = plain.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ") and "unsafe" not in policy
    assert plain.headers["x-content-type-options"] == "nosniff"
    again = ask(path, headers={"if-none-match": f'W/{plain.headers["etag"]}, "other"'})
    assert (again.status_code, again.content) == (304, b"")
    assert ask(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert ask(path, method="HEAD").content == b""


@pytest.mark.parametrize("name", ["assets.py", "__init__.py", "", "x.js", "..%2fassets.py", "%2e%2e/api/app.py"])
def test_nothing_else_is_served(name: str) -> None:
    response = ask(f"/ui/{name}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_the_page_loads_own_files_only() -> None:
    page = (FOLDER / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    own = {f"/ui/{file.name}" for file in FILES}
    assert {target for target in loaded if target.startswith("/ui/")} == own - {"/ui/index.html"}
    assert not [target for target in loaded if not target.startswith(("/", "#"))]
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page)


def test_sizes() -> None:
    assert sum(len(gzip.compress(asset.body)) for asset in assets().values()) < FIRST_VIEW / 2
    assert sum(len(file.read_text().splitlines()) for file in FILES) <= LINES


def test_scripts_make_no_markup_of_text() -> None:
    for file in FILES:
        assert file.suffix != ".js" or not MARKUP.findall(file.read_text()), file.name
