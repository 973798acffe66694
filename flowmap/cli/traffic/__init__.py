"""Commands that query a daemon for traffic."""
