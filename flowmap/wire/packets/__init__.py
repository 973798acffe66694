"""Frames and packets, and the ring they come from."""
