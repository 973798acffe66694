"""Packets of interfaces, from a ring shared with the kernel."""
