"""The file of ``expect.file``: which peers each deployment may have."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from flowmap.config.fields import Section
from flowmap.config.loading import read_model
from flowmap.model.expectation import Expectation
from flowmap.model.selection import LabelFilter

PeerName = Annotated[str, Field(min_length=1)]


class ExpectedPeers(Section):
    """One entry of the file."""

    deployment: str | None = Field(default=None, min_length=1, description="Id, name, or a glob of names.")
    label: str | None = Field(default=None, description="Deployments with a label: team=orders,billing.")
    peers: tuple[PeerName, ...] = Field(
        default=(), description="Peers that they may have: names, ip:port, or globs of either."
    )
    forbidden: tuple[PeerName, ...] = Field(default=(), description="Peers that they must not have, in the same form.")

    @model_validator(mode="after")
    def _for_some(self) -> Self:
        if self.deployment is None and self.label is None:
            raise ValueError("give deployment or label")
        if self.label is not None and not all(self.label.partition("=")[::2]):
            raise ValueError(f"label {self.label!r}: write it like team=orders or team=orders,billing")
        return self

    def entry(self) -> Expectation:
        """The entry as a value."""
        label = None
        if self.label is not None:
            key, _, values = self.label.partition("=")
            label = LabelFilter(key, tuple(values.split(",")))
        return Expectation(self.peers, self.forbidden, self.deployment, label)


class ExpectationFile(Section):
    """The whole file."""

    expect: tuple[ExpectedPeers, ...] = Field(description="The entries. Those of one deployment add up.")


def read_expectations(path: str | None) -> tuple[Expectation, ...] | None:
    """The entries of a file; None without a file. ConfigError that lists all problems with their lines."""
    if path is None:
        return None
    return tuple(one.entry() for one in read_model(path, ExpectationFile).expect)
