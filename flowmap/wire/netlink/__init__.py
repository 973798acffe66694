"""Netlink messages: conntrack, sockets, addresses, interfaces."""
