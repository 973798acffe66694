"""``flowmap top``: live traffic in the terminal."""
