"""Which calls to the control plane to make next."""
