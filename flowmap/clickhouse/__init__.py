"""The flows of all hosts in ClickHouse: tables, and how each host sends its history."""
