"""``flowmap fleet``: what the hosts of a fleet share."""
