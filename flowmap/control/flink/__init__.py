"""Open-source Flink as a control plane, read from the REST interfaces of JobManagers."""
