"""The demo: sample jobs on loopback, the embedded control plane and the daemon, each a process of its own."""
