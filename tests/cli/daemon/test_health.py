"""``flowmap health`` asks the daemon where its configuration says it listens."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flowmap.cli import main

TLS = Path(__file__).parents[2] / "data" / "tls"
STATUS = {"/-/healthy": (200, "healthy\n"), "/-/ready": (503, "not ready: the first full read is not done\n")}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, text = STATUS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(certificate: Path | None = None) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health(tmp_path: Path, http: dict[str, object], *words: str) -> int:
    file = tmp_path / "flowmap.yaml"
    file.write_text(json.dumps({"http": http}))
    return main(["health", "-c", str(file), *words])


@pytest.mark.parametrize("listen", ["127.0.0.1:{}", "0.0.0.0:{}"])
def test_a_daemon_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str) -> None:
    with served() as port:
        assert health(tmp_path, {"listen": listen.format(port), "insecure": True}) == 0
    assert capsys.readouterr().out == "healthy\n"


def test_one_that_is_not_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served() as port:
        assert health(tmp_path, {"listen": f"127.0.0.1:{port}"}, "--ready") == 1
    said = f"flowmap: http://127.0.0.1:{port}/-/ready: not ready: the first full read is not done\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("by_file", [False, True])
def test_over_tls_whatever_the_certificate_says(tmp_path: Path, by_file: bool) -> None:
    pem = str(TLS / "expired.pem")
    tls = {"cert_file": pem, "key_file": pem}
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"tls_server_config": tls}))
    with served(TLS / "expired.pem") as port:
        said: dict[str, object] = {"web_config": str(web)} if by_file else {"tls": tls}
        assert health(tmp_path, {"listen": f"127.0.0.1:{port}", **said}) == 0


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served() as port:
        pass
    assert health(tmp_path, {"listen": f"127.0.0.1:{port}"}) == 1
    assert "Connection refused" in capsys.readouterr().err
