"""The generated documentation, and secrets in output."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from flowmap.config import (
    Config,
    config_markdown,
    example_yaml,
    load,
    masked,
    require_control_plane,
    schema,
)
from flowmap.config.reference import masked_yaml
from tests.support.config_files import BCRYPT

ROOT = Path(__file__).parents[2]


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


def test_effective_configuration_loads_again(tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text(
        "collect: {include: ['tcp/9092'], conntrack: {resync: 1h30m}}\nexport: {peers: {a: ['[2001:db8::]/32:443']}}\n"
    )
    config = load(str(file), {})
    file.write_text(masked_yaml(config))
    assert load(str(file), {}) == config


def test_example_has_every_default(tmp_path: Path) -> None:
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


def test_schema_accepts_the_example() -> None:
    definitions = schema()["$defs"]
    assert schema()["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in definitions.values())
    assert set(definitions["AttributeConfig"]["properties"]) == set(masked(Config())["attribute"])
