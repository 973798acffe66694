"""Real clusters of Apache Flink in network namespaces, and the daemon before them."""
