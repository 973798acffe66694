"""``flowmap check``: test everything the daemon needs on this host."""
