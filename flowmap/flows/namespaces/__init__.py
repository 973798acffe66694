"""Flows of several network namespaces: whose they are, and each connection once."""
