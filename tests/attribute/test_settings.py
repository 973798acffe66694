"""Settings of attribution: the places, and a live change for every part."""

from __future__ import annotations

from flowmap.attribute.questions import Place
from flowmap.attribute.settings import AttributionSettings
from flowmap.config.models import AttributeConfig


def test_places() -> None:
    settings = AttributionSettings(namespaces=("a", "b"), elsewhere=(Place("v", "c"),))
    assert settings.places == (Place("", "a"), Place("", "b"), Place("v", "c"))


def test_update_changes_the_keys_of_the_section_only() -> None:
    settings = AttributionSettings(namespaces=("a",), loopback=False)
    settings.update(AttributeConfig(grace=7.0, owners_limit=9))
    assert (settings.grace, settings.owners_limit) == (7.0, 9)
    assert (settings.namespaces, settings.loopback) == (("a",), False)
