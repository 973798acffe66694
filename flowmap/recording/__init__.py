"""Recordings: every command to the accounting with its time, in a file."""
