"""Commands that query the control plane."""
