"""Fewer candidates: by answers about both endpoints, by connections at the same time, and by networks."""
