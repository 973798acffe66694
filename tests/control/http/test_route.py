"""The way to the control plane: a proxy with a tunnel, authorities of one's own, and what is said of both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flowmap.control.http.route import DIRECT, Proxy, Route, environment_proxy, parse_proxy, trusting
from flowmap.control.http.transport import CONNECTIONS, HttpTransport
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import ConfigError, ControlError, Transient
from flowmap.system.names import run_loop
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy, running
from tests.support.control_clients import everything_of
from tests.support.http_server import body, sends, server, server_tls

PROXIES: list[tuple[str, tuple[str, str | None, str | None], str]] = [
    ("http://proxy.example", ("http://proxy.example:80", None, None), "http://proxy.example:80"),
    ("https://proxy.example/", ("https://proxy.example:443", None, None), "https://proxy.example:443"),
    ("http://[::1]:3128", ("http://[::1]:3128", None, None), "http://[::1]:3128"),
    ("http://ann@p:1", ("http://p:1", "ann", None), "http://ann@p:1"),
    ("http://ann:can%40ary@p:1", ("http://p:1", "ann", "can@ary"), "http://ann:<secret>@p:1"),
    ("http://:canary@p:1", ("http://p:1", "", "canary"), "http://:<secret>@p:1"),
]


@pytest.mark.parametrize(("text", "parts", "shown"), PROXIES)
def test_proxies_are_read_and_shown_without_their_password(
    text: str, parts: tuple[str, str | None, str | None], shown: str
) -> None:
    proxy = parse_proxy(text)
    assert (proxy.url, proxy.user, proxy.password) == parts
    assert str(proxy) == shown
    assert "canary" not in repr(proxy) and "can@ary" not in repr(proxy)


NO_PROXIES = [
    *("", "proxy", "proxy:3128", "socks5://ann:canary@p:1", "ftp://p", "http://", "http://ann:canary@", "http://p:0"),
    *(
        "http://p:99999",
        "http://p:canary@x:y",
        "http://ann:canary@p/path",
        "http://p?canary",
        "http://p p",
        "http://p\n",
    ),
]


@pytest.mark.parametrize("text", NO_PROXIES)
def test_what_is_no_proxy_is_not_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match=r"not http://\[user:password@\]host\[:port\]") as caught:
        parse_proxy(text)
    assert "canary" not in str(caught.value)


ENVIRONMENTS: list[tuple[dict[str, str], str | None, str]] = [
    ({}, None, ""),
    ({"HTTPS_PROXY": ""}, None, ""),
    ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, None, ""),
    ({"HTTPS_PROXY": "http://p:1"}, "http://p:1", "HTTPS_PROXY"),
    ({"HTTPS_PROXY": "p:1"}, "http://p:1", "HTTPS_PROXY"),
    ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, "http://q:2", "https_proxy"),
]


@pytest.mark.parametrize(("environ", "url", "origin"), ENVIRONMENTS)
def test_the_environment_names_a_proxy(environ: dict[str, str], url: str | None, origin: str) -> None:
    proxy = environment_proxy(environ)
    assert (url, origin) == (None, "") if proxy is None else (proxy.url, proxy.origin) == (url, origin)


def test_a_bad_variable_is_named_and_not_quoted() -> None:
    with pytest.raises(ConfigError, match="^HTTPS_PROXY: not http://") as caught:
        environment_proxy({"HTTPS_PROXY": "socks5://ann:canary@p:1"})
    assert "canary" not in str(caught.value)


CARRIED: list[tuple[str | None, str, str, bool]] = [
    (None, "https", "plane.example", True),
    (None, "https", "localhost", True),
    (None, "http", "100.100.100.200", False),
    ("", "https", "plane.example", True),
    ("", "https", "localhost", False),
    ("", "https", "127.0.0.9", False),
    (".example", "https", "plane.example", False),
    ("other.example, plane.example", "https", "plane.example", False),
    ("other.example", "https", "plane.example", True),
    ("*", "https", "plane.example", False),
]


@pytest.mark.parametrize(("no_proxy", "scheme", "host", "carried"), CARRIED)
def test_what_a_proxy_carries(no_proxy: str | None, scheme: str, host: str, carried: bool) -> None:
    assert Proxy("http", "p", 1, no_proxy=no_proxy).carries(scheme, host) is carried


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("route")
    made = Authority(directory)
    made.issue("server", "plane.example", "127.0.0.1")
    Authority(directory, "other")
    return made


@contextmanager
def plane_behind(proxy: ConnectProxy, authority: Authority, *, tls_to_proxy: bool = False) -> Iterator[ConnectProxy]:
    """A control plane at https://plane.example that only the proxy can reach."""
    with ExitStack() as stack:
        url = stack.enter_context(server(sends(body(b"{}")), server_tls(authority)))
        proxy.hosts["plane.example"] = int(url.rpartition(":")[2])
        yield stack.enter_context(running(proxy, server_tls(authority) if tls_to_proxy else None))


def ask(route: Route, url: str = "https://plane.example/x?token=canary", *, timeout: float = 5.0) -> HttpReply:
    async def run() -> HttpReply:
        transport = HttpTransport(route)
        try:
            return await transport.send("GET", url, {"authorization": "canary"}, timeout=timeout)
        finally:
            await transport.aclose()

    with run_loop() as runner:
        return runner.run(run())


@pytest.mark.parametrize("tls_to_proxy", [False, True])
@pytest.mark.parametrize("login", [None, "ann:can ary:@"])
def test_a_tunnel_carries_the_exchange(authority: Authority, login: str | None, tls_to_proxy: bool) -> None:
    with plane_behind(ConnectProxy(login), authority, tls_to_proxy=tls_to_proxy) as proxy:
        given = proxy.url if login is None else proxy.url.replace("://", "://ann:can%20ary%3A%40@")
        assert ask(Route(parse_proxy(given), trusting(str(authority.file)))).body == b"{}"
        assert proxy.asked == ["plane.example:443"]
        assert not [head for head in proxy.heads if b"canary" in head or b"token" in head]


def test_plain_http_is_asked_directly() -> None:
    with running(ConnectProxy()) as proxy, server(sends(body(b"{}"))) as url:
        assert ask(Route(parse_proxy(proxy.url)), url).body == b"{}"
        assert proxy.asked == []


REFUSALS: list[tuple[ConnectProxy, str, str]] = [
    (ConnectProxy("ann:other"), "proxy", "refused the connection to plane.example: 407 Proxy Authentication Required"),
    (ConnectProxy(refuses="403 Forbidden"), "proxy", "refused the connection to plane.example: 403 Forbidden"),
    (ConnectProxy(refuses="502 Bad Gateway"), "proxy", "refused the connection to plane.example: 502 Bad Gateway"),
    (ConnectProxy(refuses="\0"), "transient", "the connection broke through the proxy"),
    (ConnectProxy(silent=True), "timeout", "no complete answer within 0.5 s through the proxy"),
]


@pytest.mark.parametrize(("proxy", "reason", "said"), REFUSALS, ids=[row[2] for row in REFUSALS])
def test_what_a_proxy_does_wrong_is_told(authority: Authority, proxy: ConnectProxy, reason: str, said: str) -> None:
    with plane_behind(proxy, authority):
        route = Route(parse_proxy(proxy.url.replace("://", "://ann:canary@")), trusting(str(authority.file)))
        with pytest.raises(Transient) as caught:
            ask(route, timeout=0.5 if proxy.silent else 5.0)
    assert caught.value.reason == reason
    assert said in str(caught.value) and proxy.url.replace("://", "://ann:<secret>@") in str(caught.value)
    assert not [text for text in everything_of(caught.value) if "canary" in text]


def test_a_proxy_that_is_not_there() -> None:
    with running(ConnectProxy()) as proxy:
        pass
    with pytest.raises(Transient, match=f"cannot connect to the proxy {proxy.url}") as caught:
        ask(Route(parse_proxy(proxy.url)))
    assert caught.value.reason == "connect"


def test_the_name_of_a_proxy_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(
        Transient, match="cannot resolve the proxy http://proxy.example:1: Name or service not known"
    ) as caught:
        ask(Route(parse_proxy("http://proxy.example:1")))
    assert caught.value.reason == "dns"


@pytest.mark.parametrize("through", [False, True])
def test_other_authorities_are_not_trusted(authority: Authority, through: bool) -> None:
    other = trusting(str(authority.directory / "other.pem"))
    with plane_behind(ConnectProxy(), authority) as proxy:
        direct = f"https://127.0.0.1:{proxy.hosts['plane.example']}"
        over, url = (parse_proxy(proxy.url), "https://plane.example") if through else (None, direct)
        for tls in (other, None):
            with pytest.raises(Transient, match="certificate verify failed") as caught:
                ask(Route(over, tls), url)
            assert caught.value.reason == "tls"
            assert ("through the proxy" in str(caught.value)) is through
        assert ask(Route(over, trusting(str(authority.file))), url).body == b"{}"


BAD_FILES = [(None, "cannot be read: No such file"), ("junk", "no certificate in PEM"), ("", "no certificate in PEM")]


@pytest.mark.parametrize(("content", "said"), BAD_FILES)
def test_bad_files_of_authorities(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"control_plane.tls.ca_file: {file}: .*{said}"):
        trusting(str(file))


def test_tunnels_that_hang_do_not_use_up_the_connections(authority: Authority) -> None:
    proxy = ConnectProxy(silent=True)

    async def run() -> HttpReply:
        transport = HttpTransport(Route(parse_proxy(proxy.url), trusting(str(authority.file))))
        for _ in range(CONNECTIONS + 1):
            with pytest.raises(ControlError):
                await transport.send("GET", "https://plane.example/", {}, timeout=0.1)
        proxy.silent = False
        try:
            return await transport.send("GET", "https://plane.example/", {}, timeout=5.0)
        finally:
            await transport.aclose()

    with plane_behind(proxy, authority):
        assert asyncio.run(run()).body == b"{}"


def test_another_route_counts_from_the_next_exchange_on(authority: Authority) -> None:
    async def run(through: Route, proxy: ConnectProxy) -> list[int]:
        transport, url = HttpTransport(DIRECT), f"https://127.0.0.1:{proxy.hosts['plane.example']}/"
        asked = []
        for route in (Route(tls=through.tls), through, Route(tls=through.tls)):
            transport.configure(route)
            await transport.send("GET", url, {}, timeout=5.0)
            asked.append(len(proxy.asked))
        await transport.aclose()
        return asked

    with plane_behind(ConnectProxy(), authority) as proxy:
        through = Route(parse_proxy(proxy.url), trusting(str(authority.file)))
        assert asyncio.run(run(through, proxy)) == [0, 1, 1]


def test_an_exchange_under_way_ends_on_its_route() -> None:
    async def run() -> bytes:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await go_on.wait()
            writer.write(body(b"late"))
            await writer.drain()
            writer.close()

        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        transport = HttpTransport()
        first = asyncio.create_task(transport.send("GET", url, {}, timeout=5.0))
        await asked.wait()
        transport.configure(Route(parse_proxy("http://127.0.0.1:1")))
        second = asyncio.create_task(transport.send("GET", url, {}, timeout=5.0))
        await asyncio.sleep(0)
        go_on.set()
        replies = await asyncio.gather(first, second)
        await transport.aclose()
        listening.close()
        return b" ".join(reply.body for reply in replies)

    assert asyncio.run(run()) == b"late late"
