"""What goes wrong with a daemon on a real kernel, and what that costs. See ``python -m tests.faults --help``."""
