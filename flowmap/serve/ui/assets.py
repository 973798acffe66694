"""The files of the page, read once: with types, entity tags and compressed forms."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from flowmap.export.negotiation import accepts_gzip

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"

HEADERS = {
    # Own files only, no inline script and no frame: names from the control plane are text, whatever they contain.
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    # Kept by the browser, and asked about each time: an upgrade shows at once.
    "cache-control": "no-cache",
    "vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    media_type: str
    body: bytes
    compressed: bytes
    tag: str

    def respond(self, request: Request) -> Response:
        """The file, or 304 if the client has it."""
        headers = HEADERS | {"etag": self.tag}
        given = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.tag in given or given == ["*"]:
            return Response(status_code=304, headers=headers)
        if accepts_gzip(request.headers.get("accept-encoding")):
            return Response(self.compressed, headers=headers | {"content-encoding": "gzip"}, media_type=self.media_type)
        return Response(self.body, headers=headers, media_type=self.media_type)


@cache
def assets() -> Mapping[str, Asset]:
    """Every file of this folder that a browser may read, by its name."""
    listed = (file for file in files(__package__).iterdir() if file.name.rpartition(".")[2] in TYPES)
    return {file.name: _asset(file.name, file.read_bytes()) for file in listed}


def _asset(name: str, body: bytes) -> Asset:
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    return Asset(TYPES[name.rpartition(".")[2]], body, gzip.compress(body, mtime=0), tag)
