"""The connection tracking table of the kernel, over netlink."""
