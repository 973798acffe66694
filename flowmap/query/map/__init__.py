"""The traffic map, from snapshots or from flows of the past."""
