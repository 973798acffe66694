"""Providers of access keys."""
