"""Commands that ask the daemon about traffic."""
