"""Values that leave the core: addresses, deployments, answers to queries, status. No behaviour, no I/O."""
