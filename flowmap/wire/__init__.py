"""Bytes of the kernel and of files, decoded and encoded. No socket, no clock."""
