"""Tests of what goes to ClickHouse, and of its tables."""
