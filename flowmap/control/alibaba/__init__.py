"""The control plane of Alibaba Cloud Realtime Compute for Apache Flink."""
