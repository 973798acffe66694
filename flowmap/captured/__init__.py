"""Capture files, attributed offline: the books driven over a file's packets, and who owned what at that time."""
