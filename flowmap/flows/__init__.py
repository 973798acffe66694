"""Flows: records in columns, the table of flows, and the table of endpoints. No socket, clock, logging or pydantic."""
