"""REST over TLS with a client certificate, at Flink itself and at a proxy that adds a prefix and asks for a token."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.flink.cluster import HUB, MYSQL, SOURCES, stage
from tests.flink.conftest import VERSION, Session, needs
from tests.flink.watch import settle, watched
from tests.support.certificates import Authority

pytestmark = [pytest.mark.flink]
APPLICATION = "org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint"
SECRET = "changeit"


def key_store(authority: Authority, name: str) -> str:
    """A certificate for the JobManager as a key store of Java."""
    chain, key = authority.issue(name, HUB)
    store = authority.directory / f"{name}.p12"
    words = ["-export", "-in", chain, "-inkey", key, "-out", str(store), "-passout", f"pass:{SECRET}", "-name", name]
    subprocess.run(["openssl", "pkcs12", *words], check=True, capture_output=True)
    return str(store)


def trust_store(authority: Authority) -> str:
    store = authority.directory / "trust.p12"
    words = ["-importcert", "-noprompt", "-alias", "ca", "-file", str(authority.file), "-keystore", str(store)]
    subprocess.run(["keytool", *words, "-storepass", SECRET], check=True, capture_output=True)
    return str(store)


def test_flink_that_asks_for_a_client_certificate(place: Path, tmp_path: Path) -> None:
    needs(VERSION)
    for name in ("stage", "certificates"):
        (tmp_path / name).mkdir()
    authority = Authority(tmp_path / "certificates")
    chain, key = authority.issue("client", "flowmap.example")
    tls = {
        "security.ssl.rest.enabled": "true",
        "security.ssl.algorithms": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",  # for the keys of these certificates
        "security.ssl.rest.authentication-enabled": "true",
        "security.ssl.rest.keystore": key_store(authority, "server"),
        "security.ssl.rest.truststore": trust_store(authority),
        "security.ssl.rest.keystore-type": "PKCS12",
        "security.ssl.rest.truststore-type": "PKCS12",
        **{f"security.ssl.rest.{one}-password": SECRET for one in ("keystore", "key", "truststore")},
    }
    with stage(tmp_path / "stage", VERSION) as made:
        made.leaf("tm1", 1, 2)
        words = ["--jars", str(made.job_jar), "--job-classname", "FlowJob", "--name", "payments"]
        words += ["--source", SOURCES[0], "--sink", MYSQL]
        made.job_manager(entry=APPLICATION, words=words, mode=False, settings=tls)
        made.task_manager("tm1", "10.200.1.2", 1)
        files = {"ca_file": str(authority.file), "cert_file": chain, "key_file": key}
        since = time.time()
        with watched(made, place, urls={"prod": f"https://{HUB}:8081"}, cluster={"tls": files}) as seen:
            found = settle(made, seen, jobs=2, since=since)
            assert (found.wrong, {one.job for one in found.right}) == ([], {"payments"})


class Proxy(BaseHTTPRequestHandler):
    """Takes ``/flink/prod`` off the path and asks for a token."""

    def do_GET(self) -> None:
        allowed = self.headers["authorization"] == "Bearer let-me-in" and self.path.startswith("/flink/prod/")
        status, body = (401, b"{}") if not allowed else self._forward(self.path.removeprefix("/flink/prod"))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:8081{path}", timeout=10) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, b"{}"

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def proxy(session: Session, authority: Authority) -> Iterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*authority.issue("proxy", "127.0.0.1"))
    with session.stage.hub.entered():
        server = ThreadingHTTPServer(("127.0.0.1", 8443), Proxy)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
    try:
        yield "https://127.0.0.1:8443"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_proxy_with_a_prefix_and_a_token(session: Session, place: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chain, key = authority.issue("client", "flowmap.example")
    token = tmp_path / "token"
    token.write_text("let-me-in\n")
    more = {
        "path_prefix": "/flink/prod/",
        "bearer_token_file": str(token),
        "tls": {"ca_file": str(authority.file), "cert_file": chain, "key_file": key},
    }
    with proxy(session, authority) as url, watched(session.stage, place, urls={"prod": url}, cluster=more) as seen:
        since = time.time()
        session.rest.submit("orders", SOURCES[0], MYSQL)
        found = settle(session.stage, seen, jobs=2, since=since)
        assert (found.wrong, len(found.right)) == ([], 2)
