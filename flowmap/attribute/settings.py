"""The settings of attribution: the ``attribute`` section of the configuration, and where questions are asked."""

from __future__ import annotations

from functools import cached_property

from flowmap.attribute.questions import FLINK_PLACE, Place
from flowmap.config.models import AttributeConfig


class AttributionSettings(AttributeConfig, frozen=False):
    """Every key of the section with its current value. All parts of one attribution share one object.

    A live key is declared in the configuration model and read where it is used; :meth:`update` changes it for all.
    """

    namespaces: tuple[str, ...]
    """Namespaces of the main workspace."""
    loopback: bool = True
    """Whether deployments can have loopback addresses: the control plane is on loopback itself."""
    timeless: bool = False
    """Owners are the same at all times (``replay --assume-current``): no rule of time applies."""
    elsewhere: tuple[Place, ...] = ()
    """Namespaces of other workspaces."""
    flink: bool = False
    """Whether clusters of open-source Flink are asked."""

    @property
    def services_decide(self) -> bool:
        """Whether the answers about a service endpoint decide a flow without those about its client."""
        return self.semantics == "dataflow" and not self.flink

    @property
    def infers_from_services(self) -> bool:
        """Whether a client that is never named may be named by the answers about its service endpoints."""
        return bool(self.deployment_networks) and self.semantics != "connection"

    @property
    def at_once(self) -> bool:
        """Whether an answer that is known already may decide a flow that has just begun."""
        return self.timeless or self.confirm == "fast"

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every place that is asked."""
        return self.charged_places + ((FLINK_PLACE,) if self.flink else ())

    @cached_property
    def charged_places(self) -> tuple[Place, ...]:
        """Places whose questions need calls of the budget."""
        return tuple(Place("", namespace) for namespace in self.namespaces) + self.elsewhere

    def update(self, section: AttributeConfig) -> None:
        """Apply another section. ``semantics``, ``nat`` and ``cache_size`` must be unchanged."""
        for name in AttributeConfig.model_fields:
            setattr(self, name, getattr(section, name))
