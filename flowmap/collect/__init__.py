"""The file descriptors: one source of flows a module. No HTTP and no attribution here."""
