"""What sources deliver: records in columns, and when they were read."""
