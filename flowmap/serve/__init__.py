"""HTTP: metrics, queries, health, the page."""
