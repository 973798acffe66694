"""What the host gives and takes: systemd's notifications and sockets, privileges, descriptors."""
