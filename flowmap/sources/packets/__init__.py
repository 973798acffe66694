"""Flows from packets, whether live or from a file."""
