"""Loading: problems and their places, environment variables, files of secrets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowmap.config import (
    Config,
    Listen,
    load,
    require_control_plane,
)
from flowmap.errors import ConfigError
from tests.support.config_files import BCRYPT, problems_of

PROBLEMS = [
    (
        "open-to-all",
        "http: {listen: '0.0.0.0:1'}\n",
        "flowmap.yaml:1: http: listen 0.0.0.0:1: other hosts could see every connection; set tls or users "
        "(or web_config), or insecure: true if something else protects this address",
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
        "flowmap.yaml:3: http.users.loopback: loopback is reserved in http.access; choose another user name",
    ),
    (
        "no-such-user",
        f"http:\n  users: {{ann: {BCRYPT}}}\n  access: {{query: [bob, loopback], health: [ann]}}\n",
        "flowmap.yaml:1: http: access: no user 'bob' in users",
    ),
    ("tls-key", "http:\n  tls: {cert_file: a}\n", "flowmap.yaml:2: http.tls.key_file: is missing"),
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
        "negative",
        "attribute:\n  grace: -2s\n",
        "flowmap.yaml:2: attribute.grace: a duration must not be negative",
    ),
    ("negative-number", "attribute: {grace: -1}\n", "flowmap.yaml:1: attribute.grace: a duration must not be negative"),
    ("too-long", "attribute: {grace: 1h}\n", "flowmap.yaml:1: attribute.grace: must be at most 60s"),
    ("too-old", "attribute: {answer_age: 2h}\n", "flowmap.yaml:1: attribute.answer_age: must be at most 10m"),
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
        "flowmap.yaml:3: export.peers.orders.0: 'tcp/9092' has no address; write it like \"10.100.2.0/24:9092\"",
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
        "flowmap.yaml:2: collect.include: must be a list, like [a, b]",
    ),
    (
        "text-for-names",
        "collect: {capture: {interfaces: a0}}\n",
        "flowmap.yaml:1: collect.capture.interfaces: must be a list, like [a, b]",
    ),
    (
        "list-for-a-map",
        "export: {peers: [a]}\n",
        "flowmap.yaml:1: export.peers: must be a mapping of names, like {name: …}",
    ),
    ("scalar", "log: loud\n", "flowmap.yaml:1: log: must be a mapping of keys"),
    (
        "half-key",
        "control_plane:\n  credentials: {access_key_id: x}\n",
        "flowmap.yaml:2: control_plane.credentials: access_key_id and "
        "access_key_secret (or access_key_secret_file) go together",
    ),
    (
        "two-keys",
        "control_plane:\n  credentials: {access_key_id: x, access_key_secret: y, ecs_ram_role: true}\n",
        "flowmap.yaml:2: control_plane.credentials: give ecs_ram_role or access_key_id, not both",
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
    ("list", "- a\n", "flowmap.yaml:1: must be a mapping of sections, like control_plane: {…}"),
    ("yaml", "log: {level: info\n", "flowmap.yaml:2: not YAML: did not find expected ',' or '}'"),
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
    ("deep", "log: " + "[" * 5000, "flowmap.yaml:1: not YAML: exceeded maximum nesting depth"),
    (
        "control",
        "log: \x00\n",
        "flowmap.yaml: not YAML: unacceptable character #x0000: control characters are not allowed "
        'in "<unicode string>", position 5',
    ),
]


@pytest.mark.parametrize(("text", "line"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_problem_with_place(tmp_path: Path, text: str, line: str) -> None:
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
def test_unquoted_text(tmp_path: Path, text: str, key: str, kind: str | None) -> None:
    """``kind``: what YAML takes it for; empty: nothing that quotes would mend; None: it is text."""
    if kind is None:
        file = tmp_path / "flowmap.yaml"
        file.write_text(text)
        load(str(file), {})
        return
    message = f"this is {kind} in YAML, not text; quote it" if kind else "must be text"
    lines = problems_of(tmp_path, text)
    assert f"flowmap.yaml:1: {key}: {message}" in lines
    assert "4815" not in str(lines)


BAD_VARIABLES = [
    (
        {"FLOWMAP__COLLECT__INCLUDE": "10.0.0.0/8"},
        'FLOWMAP__COLLECT__INCLUDE: collect.include: not JSON: write lists and maps as JSON, like ["a", "b"]',
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
        ('{filter: "tcp\\0 port 1"}', "filter: must be one line of printable characters"),
        ("{filter: tcp and vlan 5}", "filter: vlan never matches: the kernel removes VLAN tags before it filters"),
        (f"{{filter: '{'(' * 4097}'}}", "filter: .* at most 4096 characters"),
        ("{interfaces: [a, a]}", "interfaces: given more than once: a"),
        (f"{{interfaces: [{', '.join(f'n{n}' for n in range(129))}]}}", "interfaces: should have at most 128 items"),
    ],
)
def test_what_cannot_be_captured(tmp_path: Path, settings: str, problem: str) -> None:
    (line,) = problems_of(tmp_path, f"collect: {{capture: {settings}}}")
    assert re.search(rf"collect\.capture\.{problem}", line)


def test_a_daemon_does_not_read_files(tmp_path: Path) -> None:
    (line,) = problems_of(tmp_path, "collect: {source: replay}")
    assert line.endswith("collect.source: the daemon reads no files; use `flowmap replay FILE`")


@pytest.mark.parametrize("name", ["access_key_secret_file", "security_token_file"])
@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), ("\n", "is empty"), ("x" * 2_000_000, "larger")]
)
def test_bad_secret_file(tmp_path: Path, name: str, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    (tmp_path / "good").write_text("s")
    files = {"access_key_secret_file": "good", "security_token_file": "good"} | {name: "secret"}
    lines = [f"    {key}: {tmp_path}/{file}\n" for key, file in files.items() if file == "secret" or key != name]
    text = "control_plane:\n  credentials:\n    access_key_id: id\n" + "".join(lines)
    (line,) = problems_of(tmp_path, text)
    assert f"control_plane.credentials.{name}: secret: " in line
    assert problem in line


def test_secret_is_not_in_its_error(tmp_path: Path) -> None:
    lines = problems_of(tmp_path, "control_plane: {credentials: {access_key_secret: [hunter2]}}\n")
    assert lines
    assert "hunter2" not in "\n".join(lines)


def test_control_plane_is_required() -> None:
    with pytest.raises(ConfigError) as caught:
        require_control_plane(Config())
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "control_plane.region",
        "control_plane.workspace",
    ]
