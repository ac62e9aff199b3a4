"""The sections of the page: each module turns facts into HTML."""
