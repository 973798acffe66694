"""Control planes: the owners of addresses, and all deployments and jobs."""
