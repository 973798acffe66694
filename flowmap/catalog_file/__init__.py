"""Catalog files: which deployment owned which address when. For the sandbox and for ``replay --catalog``."""
