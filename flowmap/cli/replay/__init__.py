"""``flowmap replay``: attributes recordings and capture files again."""
