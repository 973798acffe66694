"""The container, unit and process behind each socket of this host."""
