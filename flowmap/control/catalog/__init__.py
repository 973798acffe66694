"""The list of deployments and jobs, and which packages they use."""
