"""HTTP calls: signing, transport, refusals, breaker."""
