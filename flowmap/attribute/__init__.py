"""Who owns a flow: questions, rules of time, cache and call budget. No socket and no HTTP library here."""
