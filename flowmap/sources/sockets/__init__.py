"""The socket table of the kernel, over netlink."""
