"""``flowmap expect``: which peers deployments may have."""
