"""The embedded control plane and the demo, for tests and for trying flowmap without an account."""
