"""A fleet: many daemons share the answers of a control plane and one call budget, through Valkey or Redis."""
