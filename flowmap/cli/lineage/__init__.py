"""``flowmap lineage``: what each deployment reads from and writes to, as observed."""
