"""Clusters of open-source Flink."""
