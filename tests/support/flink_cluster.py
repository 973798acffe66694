"""Clusters of open-source Flink for commands: one with recorded answers served over HTTP, and one that is down."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flowmap.cli import command

NO_DAEMON = ("--url", "http://127.0.0.1:9")


class _Handler(BaseHTTPRequestHandler):
    answers: dict[str, Any] = {}

    def do_GET(self) -> None:
        answer = self.answers.get(unquote(self.path))
        body = json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def flink_config(answers: dict[str, Any], folder: Path) -> Iterator[str]:
    """A configuration with the cluster ``prod``, which gives ``answers`` by path, and ``down``, which does not."""
    handler = type("Handler", (_Handler,), {"answers": answers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    file = folder / "flowmap.yaml"
    clusters = [
        {"name": "prod", "urls": [f"http://127.0.0.1:{server.server_port}"]},
        {"name": "down", "urls": ["http://127.0.0.1:9"]},
    ]
    file.write_text(json.dumps({"flink": {"clusters": clusters, "poll": "100ms"}}))
    try:
        yield str(file)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """Exit status, JSON answer and errors of a command."""
    status = command.main([*words, "-o", "json"])
    shown = capsys.readouterr()
    return status, json.loads(shown.out) if shown.out else None, shown.err
