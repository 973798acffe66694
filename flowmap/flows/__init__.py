"""The domain: ends, records in columns, and the table of open flows. No socket, clock, logging or pydantic here."""
