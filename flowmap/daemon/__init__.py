"""The daemon: wiring, start, reload, supervision, stop."""
