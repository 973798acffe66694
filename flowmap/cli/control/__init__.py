"""Commands that ask the control plane."""
