"""HTTP calls to any control plane: endpoints, routes, transport with limits, retries, breaker."""
