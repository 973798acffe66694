"""A file that says who owned which address when: for the sandbox, and for captures replayed with ``--catalog``."""
