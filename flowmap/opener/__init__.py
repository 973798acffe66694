"""The opener: a small process that opens sockets in other network namespaces and passes them to the daemon."""
