"""Control planes: who owns an address, and which deployments and jobs there are."""
