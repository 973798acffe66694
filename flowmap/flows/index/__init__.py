"""How rows are found: packed ports, a hash index, numbers of endpoints, superseded tuples."""
