"""The one thread that changes the accounting: flows, attribution and totals kept in step."""
