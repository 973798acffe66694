"""The configuration: its small languages, its problems and where they are, and the documentation made from it."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flowmap.config import (
    Config,
    Listen,
    config_markdown,
    example_yaml,
    load,
    masked,
    read_web_config,
    require_control_plane,
    schema,
)
from flowmap.config.reference import masked_yaml
from flowmap.config.values import (
    format_duration,
    format_interface,
    format_size,
    parse_duration,
    parse_endpoint,
    parse_interface,
    parse_size,
)
from flowmap.errors import ConfigError

ROOT = Path(__file__).parents[2]

DURATIONS = [
    ("30s", 30.0),
    ("10m", 600.0),
    ("1h30m", 5400.0),
    ("7d", 604800.0),
    ("1w", 604800.0),
    ("250ms", 0.25),
    ("1.5s", 1.5),
    ("0s", 0.0),
    ("15", 15.0),
    (15, 15.0),
    (0.5, 0.5),
    ("", None),
    ("s", None),
    ("10 m", None),
    ("-1s", None),
    (-1, None),
    ("10x", None),
    (True, None),
    (None, None),
    (float("nan"), None),
    (float("inf"), None),
    ("9999999d", None),
    ([], None),
]


@pytest.mark.parametrize(("value", "seconds"), DURATIONS)
def test_duration(value: object, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="duration"):
            parse_duration(value)
    else:
        assert parse_duration(value) == seconds


@given(st.integers(0, 3650 * 86_400_000_000))
def test_every_duration_survives_being_written(microseconds: int) -> None:
    assert parse_duration(format_duration(microseconds / 1e6)) == pytest.approx(microseconds / 1e6, rel=1e-15)


SIZES = [
    ("64MiB", 64 << 20),
    ("1GiB", 1 << 30),
    ("10MB", 10_000_000),
    ("10mb", 10_000_000),
    ("1.5KiB", 1536),
    ("128B", 128),
    ("128", 128),
    (128, 128),
    ("1 GiB", 1 << 30),
    ("1.0001KiB", None),
    ("", None),
    ("MiB", None),
    ("1XB", None),
    (-1, None),
    (1.5, None),
    (True, None),
    (None, None),
]


@pytest.mark.parametrize(("value", "size"), SIZES)
def test_size(value: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match="size"):
            parse_size(value)
    else:
        assert parse_size(value) == size


@given(st.integers(0, 1 << 60))
def test_every_size_survives_being_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


LISTENS = [
    ("127.0.0.1:10817", Listen("127.0.0.1", 10817)),
    ("[::1]:0", Listen("::1", 0)),
    ("localhost:80", Listen("localhost", 80)),
    ("0.0.0.0:65535", Listen("0.0.0.0", 65535)),
    ("127.0.0.1", None),
    (":80", None),
    ("::1:80", None),
    ("[zz]:80", None),
    ("[1:2]:80", None),
    ("127.0.0.1:65536", None),
    ("127.0.0.1:-1", None),
    ("host name:80", None),
    (10817, None),
]


@pytest.mark.parametrize(("value", "listen"), LISTENS)
def test_listen(value: object, listen: Listen | None) -> None:
    if listen is None:
        with pytest.raises(ValueError, match="address"):
            Listen.parse(value)
    else:
        assert Listen.parse(value) == listen
        assert Listen.parse(str(listen)) == listen


ENDPOINTS = [
    ("https://ververica.cn-hangzhou.aliyuncs.com", None),
    ("https://host:8443/", None),
    ("http://127.0.0.1:1", None),
    ("http://127.77.0.1:1", None),
    ("http://[::1]:1", None),
    ("http://localhost:1", None),
    ("http://10.0.0.1", "accepted for loopback only"),
    ("http://localhost.example.com", "accepted for loopback only"),
    ("https://user:password@host", "must not contain a user or password"),
    ("https://user@host", "must not contain a user or password"),
    ("https://host/path", "has more than"),
    ("https://host?a=b", "has more than"),
    ("ftp://host", "is not https://host"),
    ("host", "is not https://host"),
    ("https://", "is not https://host"),
    ("https://host:99999", "not https"),
    ("https://host:0", "is not a port"),
    ("https://[::1", "not https"),
]


@pytest.mark.parametrize(("value", "problem"), ENDPOINTS)
def test_endpoint(value: str, problem: str | None) -> None:
    if problem is None:
        assert parse_endpoint(value) == value.rstrip("/")
    else:
        with pytest.raises(ValueError, match=problem):
            parse_endpoint(value)


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """The lines of the ConfigError, with the directory of the file taken off."""
    file = tmp_path / "flowmap.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file), environ or {})
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


BCRYPT = "$2y$10$" + "a" * 53
"""A hash nobody knows the password of."""

PROBLEMS = [
    (
        "open-to-all",
        "http: {listen: '0.0.0.0:1'}\n",
        "flowmap.yaml:1: http: listen 0.0.0.0:1: other hosts could see every connection; set tls or users "
        "(or web_config), or insecure: true if something else keeps them out",
    ),
    (
        "two-guards",
        f"http: {{web_config: web.yml, users: {{ann: {BCRYPT}}}}}\n",
        "flowmap.yaml:1: http: give web_config, or tls and users, not both",
    ),
    (
        "no-hash",
        "http:\n  users:\n    ann: hunter2\n",
        "flowmap.yaml:3: http.users.ann: is not a bcrypt hash; make one with: htpasswd -nBC 10 NAME",
    ),
    (
        "dear-hash",
        f"http:\n  users: {{ann: {BCRYPT.replace('10', '17')}}}\n",
        "flowmap.yaml:2: http.users.ann: the cost of a bcrypt hash must be from 4 to 16",
    ),
    (
        "reserved-user",
        f"http:\n  users:\n    loopback: {BCRYPT}\n",
        "flowmap.yaml:3: http.users.loopback: no user can be called loopback: the word has a meaning in http.access",
    ),
    (
        "no-such-user",
        f"http:\n  users: {{ann: {BCRYPT}}}\n  access: {{query: [bob, loopback], health: [ann]}}\n",
        "flowmap.yaml:1: http: access: there is no user 'bob'",
    ),
    ("tls-key", "http:\n  tls: {cert_file: a}\n", "flowmap.yaml:2: http.tls.key_file: Field required"),
    (
        "unknown",
        "collect:\n  conntrack:\n    resnc: 5s\n",
        "flowmap.yaml:3: collect.conntrack.resnc: unknown key (did you mean resync?)",
    ),
    ("unknown-section", "colect: {}\n", "flowmap.yaml:1: colect: unknown key (did you mean collect?)"),
    ("nothing-near", "zzz: 1\n", "flowmap.yaml:1: zzz: unknown key"),
    ("twice", "log:\n  level: info\n  level: debug\n", "flowmap.yaml:3: log.level: given twice"),
    ("value", "attribute:\n  confirm: maybe\n", "flowmap.yaml:2: attribute.confirm: should be 'strict' or 'fast'"),
    (
        "number",
        "attribute: {owners_limit: 0}\n",
        "flowmap.yaml:1: attribute.owners_limit: should be greater than or equal to 1",
    ),
    (
        "duration",
        "attribute:\n\n  grace: 2 s\n",
        'flowmap.yaml:3: attribute.grace: not a duration; write it like "30s", "10m", "1h30m" or "7d"',
    ),
    (
        "no-time",
        "collect: {sockets: {interval: 0s}}\n",
        "flowmap.yaml:1: collect.sockets.interval: must be longer than 0s",
    ),
    (
        "http",
        "control_plane:\n  endpoint: http://10.0.0.1\n",
        "flowmap.yaml:2: control_plane.endpoint: 'http://10.0.0.1': plain http:// is accepted for loopback only",
    ),
    (
        "pattern",
        "collect:\n  include:\n    - 10.0.0.0/8\n    - 10.0.0.0/99\n",
        "flowmap.yaml:4: collect.include.1: '10.0.0.0/99' is neither a network, network:port nor protocol/port",
    ),
    (
        "peer",
        "export:\n  peers:\n    orders: [tcp/9092]\n",
        "flowmap.yaml:3: export.peers.orders.0: 'tcp/9092' names no address; write it like \"10.100.2.0/24:9092\"",
    ),
    ("label", "export: {labels: [peer, peer]}\n", "flowmap.yaml:1: export.labels: given more than once: peer"),
    (
        "no-namespace",
        "control_plane: {namespaces: []}\n",
        "flowmap.yaml:1: control_plane.namespaces: give at least one",
    ),
    (
        "dots",
        "control_plane: {namespaces: [..]}\n",
        "flowmap.yaml:1: control_plane.namespaces.0: '..' is not a namespace",
    ),
    (
        "text-for-a-list",
        "collect:\n  include: 10.0.0.0/8\n",
        "flowmap.yaml:2: collect.include: a list is wanted here, like [a, b]",
    ),
    (
        "text-for-names",
        "collect: {capture: {interfaces: a0}}\n",
        "flowmap.yaml:1: collect.capture.interfaces: a list is wanted here, like [a, b]",
    ),
    (
        "list-for-a-map",
        "export: {peers: [a]}\n",
        "flowmap.yaml:1: export.peers: a mapping of names is wanted here, like {name: …}",
    ),
    ("scalar", "log: loud\n", "flowmap.yaml:1: log: a mapping of keys is wanted here"),
    (
        "half-key",
        "control_plane:\n  credentials: {access_key_id: x}\n",
        "flowmap.yaml:2: control_plane.credentials: access_key_id and "
        "access_key_secret (or access_key_secret_file) go together",
    ),
    (
        "two-keys",
        "control_plane:\n  credentials: {access_key_id: x, access_key_secret: y, ecs_ram_role: true}\n",
        "flowmap.yaml:2: control_plane.credentials: ecs_ram_role is never asked beside access_key_id; give one of them",
    ),
    (
        "blink-without-region",
        "control_plane:\n  endpoint: https://example.com\n  blink: {enabled: true}\n",
        "flowmap.yaml:1: control_plane: blink.enabled needs region: the legacy operation has it as a parameter",
    ),
    (
        "blink-project",
        "control_plane:\n  region: cn-hangzhou\n  blink: {enabled: true, projects: [a/b]}\n",
        "flowmap.yaml:3: control_plane.blink.projects.0: 'a/b' is not the name of a project",
    ),
    ("list", "- a\n", "flowmap.yaml:1: a mapping of sections is wanted, like control_plane: {…}"),
    ("yaml", "log: {level: info\n", "flowmap.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'"),
    (
        "tag",
        "log: !!python/name:os.system x\n",
        "flowmap.yaml:1: not YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/name:os.system'",
    ),
    (
        "date",
        "log:\n  level: 2026-13-45\n",
        "flowmap.yaml:2: 2026-13-45: month must be in 1..12; quote it if it is text",
    ),
    ("circle", "log: &a\n  level: *a\n", "flowmap.yaml:1: an alias that contains itself"),
    ("deep", "log: " + "[" * 5000, "flowmap.yaml: nested too deeply"),
    (
        "control",
        "log: \x00\n",
        "flowmap.yaml: not YAML: unacceptable character #x0000: special characters are not allowed "
        'in "<unicode string>", position 5',
    ),
]


@pytest.mark.parametrize(("text", "line"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_a_problem_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    assert problems_of(tmp_path, text) == [line]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = "attribute:\n  grace: soon\nhttp:\n  lisen: 1\nlog:\n  level: loud\n"
    lines = problems_of(tmp_path, text, {"FLOWMAP__EXPORT__MAX_SERIES": "none"})
    assert [line.split(": ")[:2] for line in lines] == [
        ["flowmap.yaml:2", "attribute.grace"],
        ["FLOWMAP__EXPORT__MAX_SERIES", "export.max_series"],
        ["flowmap.yaml:4", "http.lisen"],
        ["flowmap.yaml:6", "log.level"],
    ]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"^/nowhere/flowmap\.yaml: cannot be read: No such file or directory$"):
        load("/nowhere/flowmap.yaml", {})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"log: \xff")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 5\)$"):
        load(str(file), {})


def test_a_pipe_is_read_to_its_end_and_not_waited_for_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.config.loading.PIPE_SECONDS", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match=r"pipe: is a pipe that nobody writes to$"):
        load(str(pipe), {})
    with pipe.open("r+b", buffering=0) as both_ends:
        both_ends.write(b"log: {level: debug}")
        with pytest.raises(ConfigError, match="nobody writes to"):
            load(str(pipe), {})  # its end never comes
    monkeypatch.setattr("flowmap.config.loading.PIPE_SECONDS", 30.0)
    writer = threading.Thread(target=pipe.write_text, args=("log: {level: error}\n" + "# more\n" * 20_000,))
    writer.start()
    assert load(str(pipe), {}).log.level == "error"
    writer.join()


def test_sections_left_empty_are_defaults(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("control_plane:\n  # region: cn-hangzhou\ncollect:\n  conntrack:\nlog: {level: debug}\n")
    assert load(str(file), {}).log.level == "debug"
    assert load(str(file), {}).collect == Config().collect


OVERRIDES = [
    ({"FLOWMAP__ATTRIBUTE__GRACE": "0s"}, "attribute.grace", 0.0),
    ({"FLOWMAP__COLLECT__CONNTRACK__RECEIVE_BUFFER": "1MiB"}, "collect.conntrack.receive_buffer", 1 << 20),
    ({"FLOWMAP__HTTP__LISTEN": "[::1]:99"}, "http.listen", Listen("::1", 99)),
    ({"FLOWMAP__CONTROL_PLANE__WORKSPACE": "0123"}, "control_plane.workspace", "0123"),
    ({"FLOWMAP__CONTROL_PLANE__NAMESPACES": '["a", "b"]'}, "control_plane.namespaces", ("a", "b")),
    ({"FLOWMAP__EXPORT__PEERS": '{"orders": ["10.1.0.0/16:9092"]}'}, "export.peers", {"orders": ("10.1.0.0/16:9092",)}),
    ({"FLOWMAP__COLLECT__CONNTRACK__ENABLE_ACCOUNTING": "true"}, "collect.conntrack.enable_accounting", True),
    ({"FLOWMAP__CONTROL_PLANE__REGION": "null"}, "control_plane.region", None),
    ({"FLOWMAP__LOG": '{"level": "error"}', "FLOWMAP__LOG__FORMAT": "text"}, "log.level", "error"),
    ({"flowmap__log__level": "error", "FLOWMAP_URL": "http://x"}, "log.level", "warning"),
]


@pytest.mark.parametrize(("environ", "path", "value"), OVERRIDES)
def test_the_environment_wins(tmp_path: Path, environ: dict[str, str], path: str, value: object) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("log: {level: warning}\ncontrol_plane: {region: cn-hangzhou}\n")
    found: object = load(str(file), environ)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


QUOTES = [
    ("control_plane: {workspace: 0123}", "control_plane.workspace", "a number"),
    ("control_plane: {workspace: 1e3}", "control_plane.workspace", None),  # text: YAML 1.1 wants 1.0e+3
    ("control_plane: {workspace: 1.5}", "control_plane.workspace", "a number"),
    ("control_plane: {namespaces: [on]}", "control_plane.namespaces.0", "true or false"),
    (
        "control_plane: {credentials: {access_key_secret: 4815}}",
        "control_plane.credentials.access_key_secret",
        "a number",
    ),
    ("history: {path: 2026-11-21}", "history.path", "a date"),
    ("history: {path: 2026-11-21T10:00:00Z}", "history.path", "a date"),
    ("control_plane: {region: {a: b}}", "control_plane.region", ""),
    ('control_plane: {workspace: "0123"}', "control_plane.workspace", None),
]


@pytest.mark.parametrize(("text", "key", "kind"), QUOTES)
def test_what_yaml_takes_for_no_text_is_to_be_quoted(tmp_path: Path, text: str, key: str, kind: str | None) -> None:
    """``kind``: what YAML takes it for; empty: nothing that quotes would mend; None: it is text."""
    if kind is None:
        file = tmp_path / "flowmap.yaml"
        file.write_text(text)
        load(str(file), {})
        return
    message = f"this is {kind} in YAML, and text is wanted; quote it" if kind else "text is wanted here"
    lines = problems_of(tmp_path, text)
    assert f"flowmap.yaml:1: {key}: {message}" in lines
    assert "4815" not in str(lines)


BAD_VARIABLES = [
    (
        {"FLOWMAP__COLLECT__INCLUDE": "10.0.0.0/8"},
        'FLOWMAP__COLLECT__INCLUDE: collect.include: lists and maps are given as JSON, like ["a", "b"]',
    ),
    ({"FLOWMAP__LOG__LEVLE": "info"}, "FLOWMAP__LOG__LEVLE: log.levle: unknown key (did you mean level?)"),
    (
        {"FLOWMAP__LOG__LEVEL__X": "info"},
        "FLOWMAP__LOG__LEVEL__X: log.level: should be 'debug', 'info', 'warning' or 'error'",
    ),
    ({"FLOWMAP__": "info"}, "FLOWMAP__: unknown key"),
    ({"FLOWMAP__\udcff": "info"}, "FLOWMAP__\udcff: \udcff: unknown key"),
    (
        {"FLOWMAP__CONTROL_PLANE__WORKSPACE": "w\udcff"},
        "FLOWMAP__CONTROL_PLANE__WORKSPACE: control_plane.workspace: is not UTF-8 text",
    ),
]


@pytest.mark.parametrize(("environ", "line"), BAD_VARIABLES)
def test_a_bad_variable_is_named(environ: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('{filter: "tcp\\0 port 1"}', "filter: a filter is one line of printable characters"),
        ("{filter: tcp and vlan 5}", "filter: vlan matches nothing: the kernel takes VLAN tags off before it filters"),
        (f"{{filter: '{'(' * 4097}'}}", "filter: .* at most 4096 characters"),
        ("{interfaces: [a, a]}", "interfaces: given more than once: a"),
        (f"{{interfaces: [{', '.join(f'n{n}' for n in range(129))}]}}", "interfaces: should have at most 128 items"),
    ],
)
def test_what_cannot_be_captured(tmp_path: Path, settings: str, problem: str) -> None:
    (line,) = problems_of(tmp_path, f"collect: {{capture: {settings}}}")
    assert re.search(rf"collect\.capture\.{problem}", line)


INTERFACES: list[tuple[str, str | None]] = [
    # as written, and in the one form that is compared and shown; None: refused
    ("eth0", "eth0"),
    ("any", "any"),
    ("a.100", "a.100"),
    ("uplink:1", "uplink:1"),  # only an alternative name has a colon
    ("x" * 127, "x" * 127),
    ("ä" * 7, "ä" * 7),
    (r"odd\xff", r"odd\xff"),
    (r"odd\xFF\xc3\xa4", r"odd\xffä"),
    ("odd\udcff", r"odd\xff"),  # as Python gives a byte of the environment
    (r"back\slash", r"back\x5cslash"),
    ("bell\a", r"bell\x07"),
    ("turned\u202e", r"turned\xe2\x80\xae"),
    ("", None),
    ("x" * 128, None),
    ("ä" * 64, None),
    ("a/b", None),
    ("a b", None),
    (r"a\x20b", None),
    ("a\n", None),
    ("a\0", None),
    ("a\ud800", None),
]


@pytest.mark.parametrize(("name", "shown"), INTERFACES, ids=[ascii(name)[:20] for name, _ in INTERFACES])
def test_names_of_interfaces(tmp_path: Path, name: str, shown: str | None) -> None:
    text = json.dumps(["lo", name])
    environ = {"FLOWMAP__COLLECT__CAPTURE__INTERFACES": text}
    if shown is not None:
        assert load(None, environ).collect.capture.interfaces == ("lo", shown)
        assert parse_interface(shown) == shown
    else:
        with pytest.raises(ConfigError, match=r"collect\.capture\.interfaces"):
            load(None, environ)


def test_a_name_of_an_interface_that_cannot_be_says_why(tmp_path: Path) -> None:
    assert problems_of(tmp_path, 'collect: {capture: {interfaces: [lo, "a b"]}}') == [
        "flowmap.yaml:1: collect.capture.interfaces.1: 'a b' is no name of an interface: "
        "1 to 127 bytes, no / or white space"
    ]


@given(st.binary(min_size=1, max_size=15))
def test_two_names_of_interfaces_never_look_alike(name: bytes) -> None:
    shown = format_interface(name)
    assert shown.isprintable()
    raw = re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), shown.encode())
    assert raw == name


def test_a_daemon_does_not_read_files(tmp_path: Path) -> None:
    (line,) = problems_of(tmp_path, "collect: {source: replay}")
    assert line.endswith("collect.source: a file is read with `flowmap replay FILE`, not by the daemon")


EXPOSED = [
    ("127.0.0.1:1", True),
    ("127.9.9.9:1", True),
    ("[::1]:1", True),
    ("localhost:1", True),
    ("0.0.0.0:1", False),
    ("[::]:1", False),
    ("192.0.2.1:1", False),
    ("localhost.example.com:1", False),
]


@pytest.mark.parametrize(("listen", "loopback"), EXPOSED)
@pytest.mark.parametrize(
    ("guard", "enough"),
    [
        ({}, False),
        ({"allowed_hosts": ["x"], "access": {"query": []}}, False),
        ({"insecure": True}, True),
        ({"users": {"ann": BCRYPT}}, True),
        ({"tls": {"cert_file": "a", "key_file": "b"}}, True),
    ],
)
def test_other_hosts_need_a_guard(
    tmp_path: Path, listen: str, loopback: bool, guard: dict[str, object], enough: bool
) -> None:
    text = yaml.safe_dump({"http": {"listen": listen, **guard}})
    if loopback or enough:
        (tmp_path / "flowmap.yaml").write_text(text)
        assert str(load(str(tmp_path / "flowmap.yaml"), {}).http.listen) == listen
    else:
        (line,) = problems_of(tmp_path, text)
        assert "insecure: true" in line


WEB_PROBLEMS = [
    ("tls_server_config:\n  cert_fil: x\n  key_file: y\n", ["web.yml:2", "unknown key (did you mean cert_file?)"]),
    ("tls: {}\n", ["web.yml:1: tls: unknown key"]),
    ("basic_auth_users:\n  ann: hunter2\n", ["web.yml:2: basic_auth_users.ann: is not a bcrypt hash"]),
    (f"basic_auth_users:\n  'a:b': {BCRYPT}\n", ["web.yml:2: basic_auth_users.a:b: a user's name"]),
    ("http_server_config:\n  headers:\n    X-Powered-By: me\n", ["web.yml:3", "X-Powered-By: unknown key"]),
    ("http_server_config: {headers: {X-Frame-Options: no}}\n", ["web.yml:1", "should be 'deny' or 'sameorigin'"]),
    (
        'http_server_config: {headers: {Strict-Transport-Security: "a\\nb: c"}}\n',
        ["web.yml:1", "must be printable ASCII on one line"],
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}\n",
        ["web.yml:1", "client_ca_file and a client_auth_type that verifies go together"],
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n",
        ["web.yml:1: tls_server_config.min_version: should be 'TLS12' or 'TLS13'"],
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}\n",
        ["web.yml:1: tls_server_config.cipher_suites.0: is none of TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
    ),
    ("[]\n", ["web.yml:1: a mapping of sections is wanted"]),
]


@pytest.mark.parametrize(("text", "parts"), WEB_PROBLEMS)
def test_a_web_configuration_that_is_wrong(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "web.yml").write_text(text)
    lines = problems_of(tmp_path, f"http:\n  web_config: {tmp_path}/web.yml\n")
    assert all(line.startswith("flowmap.yaml:2: http.web_config: web.yml:") for line in lines)
    assert all(any(part in line for line in lines) for part in parts), lines
    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize(("text", "guards"), [("", False), (f"basic_auth_users: {{ann: {BCRYPT}}}\n", True)])
def test_a_web_configuration_is_a_guard_if_it_guards(tmp_path: Path, text: str, guards: bool) -> None:
    (tmp_path / "web.yml").write_text(text)
    config = f"http: {{listen: '0.0.0.0:1', web_config: {tmp_path}/web.yml}}\n"
    if guards:
        (tmp_path / "flowmap.yaml").write_text(config)
        assert load(str(tmp_path / "flowmap.yaml"), {}).http.web_config == f"{tmp_path}/web.yml"
    else:
        (line,) = problems_of(tmp_path, config)
        assert line.startswith("flowmap.yaml:1: http.web_config: listen 0.0.0.0:1: other hosts")


def test_files_of_a_web_configuration_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: a.pem, key_file: /k.pem}\n")
    tls = read_web_config(f"{tmp_path}/web.yml").tls_server_config
    assert tls is not None
    assert tls.files == (f"{tmp_path}/a.pem", "/k.pem")


def test_hashes_are_secrets(tmp_path: Path) -> None:
    (tmp_path / "flowmap.yaml").write_text(f"http: {{users: {{ann: {BCRYPT}}}}}\n")
    config = load(str(tmp_path / "flowmap.yaml"), {})
    assert masked(config)["http"]["users"] == {"ann": "<secret>"}
    assert BCRYPT not in f"{config!r} {masked_yaml(config)}"


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("control_plane: {credentials: {access_key_id: id, security_token: very-secret}}\n")
    config = load(str(file), {"FLOWMAP__CONTROL_PLANE__CREDENTIALS__ACCESS_KEY_SECRET": "[hunter2]"})
    credentials = config.control_plane.credentials
    assert credentials.security_token is not None
    assert credentials.security_token.get_secret_value() == "very-secret"
    assert credentials.access_key_secret is not None
    assert credentials.access_key_secret.get_secret_value() == "[hunter2]"
    shown = f"{config!r} {config} {masked_yaml(config)} {json.dumps(masked(config))}"
    assert "very-secret" not in shown
    assert "hunter2" not in shown
    assert masked(config)["control_plane"]["credentials"]["access_key_secret"] == "<secret>"


@pytest.mark.parametrize("name", ["access_key_secret_file", "security_token_file"])
@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), ("\n", "is empty"), ("x" * 2_000_000, "larger")]
)
def test_a_secret_file_that_is_no_use(tmp_path: Path, name: str, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    (tmp_path / "good").write_text("s")
    files = {"access_key_secret_file": "good", "security_token_file": "good"} | {name: "secret"}
    lines = [f"    {key}: {tmp_path}/{file}\n" for key, file in files.items() if file == "secret" or key != name]
    text = "control_plane:\n  credentials:\n    access_key_id: id\n" + "".join(lines)
    (line,) = problems_of(tmp_path, text)
    assert f"control_plane.credentials.{name}: secret: " in line
    assert problem in line


def test_a_secret_is_not_in_the_message_that_refuses_it(tmp_path: Path) -> None:
    lines = problems_of(tmp_path, "control_plane: {credentials: {access_key_secret: [hunter2]}}\n")
    assert lines
    assert "hunter2" not in "\n".join(lines)


def test_a_daemon_that_could_ask_nobody_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        require_control_plane(Config())
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "control_plane.region",
        "control_plane.workspace",
    ]


def test_what_is_in_force_can_be_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text(
        "collect: {include: ['tcp/9092'], conntrack: {resync: 1h30m}}\nexport: {peers: {a: ['[2001:db8::]/32:443']}}\n"
    )
    config = load(str(file), {})
    file.write_text(masked_yaml(config))
    assert load(str(file), {}) == config


def test_the_example_holds_every_key_at_its_default(tmp_path: Path) -> None:
    assert (ROOT / "config" / "flowmap.yaml").read_text() == example_yaml(), (
        "run: flowmap config --example > config/flowmap.yaml"
    )
    assert load(str(ROOT / "config" / "flowmap.yaml"), {}) == Config()
    assert yaml.safe_load(example_yaml()) == masked(Config())


def test_the_minimal_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    environ = {"FLOWMAP__CONTROL_PLANE__CREDENTIALS__ACCESS_KEY_SECRET_FILE": str(tmp_path / "secret")}
    require_control_plane(load(str(ROOT / "config" / "minimal.yaml"), environ))


def test_every_key_is_described() -> None:
    rows = config_markdown().splitlines()[2:]
    assert len(rows) > 40
    assert all(row.count("|") == 5 and len(row.split("|")[4].strip()) > 5 for row in rows)


def test_the_schema_accepts_what_the_example_says() -> None:
    definitions = schema()["$defs"]
    assert schema()["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in definitions.values())
    assert set(definitions["AttributeConfig"]["properties"]) == set(masked(Config())["attribute"])
