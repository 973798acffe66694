"""Services of the operating system: systemd, privileges, descriptors, names, threads, /proc."""
