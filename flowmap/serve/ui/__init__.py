"""The page for people: HTML, CSS and ES modules of our own, served as they are."""

from __future__ import annotations
