"""``flowmap who``: finds client endpoints in text and adds who owns them."""
