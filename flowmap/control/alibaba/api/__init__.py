"""The operations of the API: requests, answers, paging, repeated attempts."""
