"""Sources of flows: each reads the kernel in its own way and delivers batches of records."""
