"""Recordings: the operations on the books with their instants, kept in a file and read back."""
