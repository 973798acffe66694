"""``flowmap replay``: recordings and capture files."""
