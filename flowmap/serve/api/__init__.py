"""The HTTP interface: paths, parameters, JSON forms, OpenAPI."""
