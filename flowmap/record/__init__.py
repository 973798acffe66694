"""Recordings: the commands of the engine with their instants, kept in a file and read back."""
