"""Commands that run, check and control the daemon."""
