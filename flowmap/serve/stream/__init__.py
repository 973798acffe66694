"""GET /api/v1/stream: server-sent events."""
