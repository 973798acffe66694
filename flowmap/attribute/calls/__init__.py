"""Which calls to make next."""
