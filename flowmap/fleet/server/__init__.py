"""The server that the hosts of a fleet share: what a host sends and gets, and what everything on it does."""
