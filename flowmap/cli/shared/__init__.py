"""What several commands use: options, the client of the daemon, calls to the control plane."""
