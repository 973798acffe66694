"""Open-source Flink as a control plane: what the REST interfaces of JobManagers tell."""
