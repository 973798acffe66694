"""Keys that differ, and keys that a reload applies."""

from __future__ import annotations

from flowmap.config import Config
from flowmap.config.reloading import changed, live


def test_changed_names_every_key() -> None:
    old = Config()
    new = old.model_copy(update={"log": old.log.model_copy(update={"level": "debug"})})
    assert list(changed(old, old)) == []
    assert list(changed(old, new)) == ["log.level"]
    assert (live("log.level"), live("http.listen"), live("control_plane.credentials.security_token_file")) == (
        "everything",
        None,
        "the next call",
    )
