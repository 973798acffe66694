"""Recordings and capture files, attributed offline."""
