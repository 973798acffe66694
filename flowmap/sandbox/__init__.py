"""An embedded control plane and sample jobs: for the demo, for tests and for trying flowmap without an account."""
