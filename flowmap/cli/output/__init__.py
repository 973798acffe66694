"""Tables, JSON and progress that commands print."""
