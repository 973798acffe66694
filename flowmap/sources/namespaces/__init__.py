"""Sources in the other network namespaces of this host."""
