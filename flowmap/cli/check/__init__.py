"""``flowmap check``: what works here and what does not."""
