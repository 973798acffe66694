"""Endpoints about which no question is asked, and flowmap's own connections."""
