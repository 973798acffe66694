"""Metrics: series of traffic, the page, metrics of flowmap itself."""
